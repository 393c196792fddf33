"""What a file of a model in a form to be run says about itself: one definition, written and read.

It is JSON: of an ONNX graph in its metadata, of a compiled library in a string.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Union

from s4edge.errors import S4EdgeError
from s4edge.foreign import parse_json, shown
from s4edge.json_codec import Kind, MisfitError, decode, encode

KNOWN_FORMAT = 1

Count = Annotated[int, Kind("a positive integer", lambda value: value >= 1)]
_Whole = Annotated[int, Kind("a whole number", lambda value: value >= 0)]
_Size = Annotated[Union[int, float], Kind("a number", lambda value: value >= 0)]
_Rate = Annotated[Union[int, float], Kind("a positive number", lambda value: 0 < value < 1e12)]
_WORDS = {str: "a string"}


@dataclasses.dataclass(frozen=True)
class Description:
    """What it says.

    Attributes:
        format: version of this description.
        version: the s4edge version that wrote the file.
        mode: ``"step"``: one sample per run; ``"chunk"``: several; ``"sequence"``: a whole
            sequence.
        samples_per_run: samples that one run consumes; None for any number.
        d_input: width of one input sample.
        d_output: width of one output sample.
        tokens: None, or how many tokens there are: an input sample is then one of them, as float.
        state_floats: width S of the packed state (batch, S), in float32 numbers; 0 without one.
        pooling: how the model pools over time.
        length: None, or the only sequence length in samples for which the model is exact.
        exact_samples: None, or the samples from zero state for which a stream is exact.
        source: the model that the file was exported from.
        state_size: state size of that model's layers, None where they differ or have none.
        real_states: of all layers; None in files that do not tell.
        rate: samples per second that the model expects, None where the file does not say.
        period: samples that some layers run once for.
    """

    format: Count
    version: str
    mode: str
    samples_per_run: Count | None
    d_input: Count
    d_output: Count
    tokens: Count | None
    state_floats: _Whole
    pooling: str
    length: Count | None
    exact_samples: Count | None
    source: str
    state_size: _Size | None
    real_states: _Whole | None = None
    rate: _Rate | None = None
    period: Count = 1

    @property
    def streams(self) -> bool:
        """Whether it goes on from run to run, with a state."""
        return self.mode != "sequence"

    @property
    def state_bytes(self) -> int:
        """Size in bytes of one stream's packed state."""
        return 4 * self.state_floats

    def to_json(self, **further: object) -> str:
        """The JSON, ``further`` keys after these."""
        return json.dumps({**encode(self), **further})

    @property
    def can_be_run(self) -> bool:
        """Whether mode, samples per run and state belong together as this s4edge runs them."""
        if self.mode == "chunk":
            return self.samples_per_run is not None and self.state_floats > 0
        return (self.mode, self.samples_per_run, self.state_floats > 0) in (
            ("step", 1, True),
            ("sequence", None, False),
        )


@dataclasses.dataclass(frozen=True)
class GraphInfo(Description):
    """A description, and the file that it was read from.

    Attributes:
        path: of the file.
        model_bytes: its size.
        extra: further keys of the description, unread.
    """

    path: Path = Path()
    model_bytes: int = 0
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read_description(path: Path, text: str, hint: str) -> GraphInfo:
    """What a file's description says.

    Args:
        path: the file.
        text: the JSON.
        hint: the command that writes such a file.

    Raises:
        S4EdgeError: it is damaged, of a newer s4edge, or of a mode that this one does not run.
    """
    again = f"export it again with: {hint}"

    def unreadable(what: str) -> S4EdgeError:
        return S4EdgeError(f"{path}: its s4edge description {what}; {again}")

    try:
        found = parse_json(text, finite=False)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise unreadable("is not a JSON object")
    # Before all else, since a newer format may have other keys.
    written = found.get("format")
    if type(written) is int and written > KNOWN_FORMAT:
        raise S4EdgeError(
            f"{path} has format {written}, newer than this s4edge knows ({KNOWN_FORMAT}); "
            "upgrade it with: pip install --upgrade s4edge"
        )
    try:
        description: Description = decode(Description, found, strict=False)
    except MisfitError as error:
        if error.problem == "missing":
            raise unreadable(f"lacks {error.value!r}") from error
        wanted = getattr(error.wanted, "name", "") or _WORDS[error.wanted]
        wanted += " or null" if error.or_null else ""
        raise unreadable(f"has {error.path!r} = {shown(error.value)}, not {wanted}") from error
    known = {field.name: getattr(description, field.name) for field in _FIELDS}
    if not description.can_be_run:
        raise S4EdgeError(
            f"{path} is a graph of mode {description.mode!r} with {description.samples_per_run} "
            f"samples per run, which this s4edge cannot run; {again}"
        )
    extra = {key: value for key, value in found.items() if key not in known}
    return GraphInfo(**known, path=path, model_bytes=path.stat().st_size, extra=extra)


_FIELDS = dataclasses.fields(Description)
