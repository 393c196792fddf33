"""Graphs on disk: what they say about themselves, and opening them in onnxruntime."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from s4edge.errors import S4EdgeError, means_no_memory
from s4edge.foreign import check_file, parse_json, shown
from s4edge.runtime.graph_file import find_trouble

METADATA_KEY = "s4edge"
KNOWN_FORMAT = 1
EXPORT_HINT = "s4edge export MODEL --onnx"


@dataclasses.dataclass(frozen=True)
class GraphInfo:
    """What an exported graph says about itself, and its file's size.

    Attributes:
        path: where the graph was read.
        format: version of this description.
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
        source: the model that the graph was exported from.
        state_size: state size of that model's layers, None where they differ or have none.
        version: the s4edge version that wrote the graph.
        model_bytes: size of the graph's file.
        extra: further keys of the description, unread.
        rate: samples per second that the model expects, None where the graph does not say.
    """

    path: Path
    format: int
    mode: str
    samples_per_run: int | None
    d_input: int
    d_output: int
    tokens: int | None
    state_floats: int
    pooling: str
    length: int | None
    exact_samples: int | None
    source: str
    state_size: float | None
    version: str
    model_bytes: int
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rate: float | None = None

    @property
    def streams(self) -> bool:
        """Whether it goes on from run to run, with a state."""
        return self.mode != "sequence"

    @property
    def state_bytes(self) -> int:
        """Size in bytes of one stream's packed state."""
        return 4 * self.state_floats


@dataclasses.dataclass(frozen=True)
class Graph:
    """An opened graph.

    Attributes:
        info: what the graph says about itself.
        session: the graph loaded in onnxruntime, on the CPU.
        batch: the batch size that the graph is fixed to, None if any will do.
    """

    info: GraphInfo
    session: onnxruntime.InferenceSession
    batch: int | None = None


def read_info(path: Path | str) -> GraphInfo:
    """Read what a graph says about itself. Raises S4EdgeError as `open_graph` does."""
    return open_graph(path).info


def open_graph(path: Path | str, threads: int = 1) -> Graph:
    """Load a graph on the CPU.

    Args:
        path: the ``.onnx`` file.
        threads: threads that one run may use.

    Raises:
        S4EdgeError: no such file, no ONNX file, not written by s4edge or by a newer one, or its
            inputs and outputs are not those that its description promises.
    """
    if threads < 1:
        raise S4EdgeError(f"threads must be at least 1, not {threads}")
    path = Path(path)
    session = _load(path, threads)
    try:
        info = _describe(path, session)
        return Graph(info, session, _check_signature(info, session))
    except UnicodeDecodeError as error:
        raise S4EdgeError(
            f"{path} has names that are no text; export it again with: {EXPORT_HINT}"
        ) from error


def _load(path: Path, threads: int) -> onnxruntime.InferenceSession:
    check_file(path, "name an .onnx file in it", f"; export it again with: {EXPORT_HINT}")
    trouble = find_trouble(path)
    if trouble is not None:
        raise S4EdgeError(f"{path} is not run: {trouble}; export it again with: {EXPORT_HINT}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A stream waits for samples most of the time: threads that spin meanwhile would eat the board.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # nothing: its errors come as exceptions, too
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no base of their own
        if means_no_memory(error):
            raise S4EdgeError(
                f"not enough memory to load {path}; close other programs or use a smaller graph"
            ) from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = reason.rpartition("failed:")[2]  # before it, the path once more
        raise S4EdgeError(
            f"onnxruntime {onnxruntime.__version__} cannot load {path} ({reason}); it is truncated "
            f"or no ONNX file: export it again with: {EXPORT_HINT}"
        ) from error


def _describe(path: Path, session: onnxruntime.InferenceSession) -> GraphInfo:
    try:
        text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    except UnicodeDecodeError as error:
        raise _unreadable(path, "is no text") from error
    if text is None:
        raise S4EdgeError(
            f"{path} was not written by s4edge, so what its inputs mean is unknown; "
            f"export one with: {EXPORT_HINT}"
        )
    try:
        description = parse_json(text, finite=False)
    except ValueError:
        description = None
    if not isinstance(description, dict):
        raise _unreadable(path, "is not a JSON object")
    # Before all else, since a newer format may have other keys.
    written: Any = description.get("format")
    if _is_int(written) and written > KNOWN_FORMAT:
        raise S4EdgeError(
            f"{path} has format {written}, newer than this s4edge knows ({KNOWN_FORMAT}); "
            "upgrade it with: pip install --upgrade s4edge"
        )
    for key, (accepts, wanted) in _EXPECTED.items():
        if key not in description:
            raise _unreadable(path, f"lacks {key!r}")
        if not accepts(description[key]):
            raise _unreadable(path, f"has {key!r} = {shown(description[key])}, not {wanted}")
    for key, (accepts, wanted) in _OPTIONAL.items():
        if not accepts(description.get(key)):
            raise _unreadable(path, f"has {key!r} = {shown(description[key])}, not {wanted}")
    known = {key: description.pop(key) for key in _EXPECTED}
    known |= {key: description.pop(key, None) for key in _OPTIONAL}
    mode, per_run, has_state = known["mode"], known["samples_per_run"], known["state_floats"] > 0
    if not (
        (mode, per_run, has_state) in (("step", 1, True), ("sequence", None, False))
        or (mode == "chunk" and per_run is not None and has_state)
    ):
        raise S4EdgeError(
            f"{path} is a graph of mode {mode!r} with {per_run} samples per run, which this "
            f"s4edge cannot run; export it again with: {EXPORT_HINT}"
        )
    return GraphInfo(path=path, model_bytes=path.stat().st_size, extra=description, **known)


@contextlib.contextmanager
def told_of(path: Path) -> Iterator[None]:
    """Turn what onnxruntime raises while a graph runs into one line."""
    try:
        yield
    except Exception as error:  # onnxruntime's exceptions have no base of their own
        raise failed(path, error) from error


def failed(path: Path, error: Exception) -> S4EdgeError:
    """The one line for what onnxruntime raised while a graph ran."""
    reason = "out of memory"
    if not means_no_memory(error):
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return S4EdgeError(f"{path} cannot be run ({reason}); export it again with: {EXPORT_HINT}")


def newest_graph(folder: Path) -> Path | None:
    """Find the graph with a state in ``folder`` that s4edge wrote last.

    Files that s4edge did not write, or that cannot be read, are passed over.

    Returns:
        The file, or None if there is none.
    """
    candidates = []
    for path in Path(folder).glob("*.onnx"):
        try:
            candidates.append((path.stat().st_mtime_ns, path))
        except OSError:  # gone since, or a dangling link
            continue
    for _, path in sorted(candidates, reverse=True):
        with contextlib.suppress(S4EdgeError):
            if read_info(path).streams:
                return path
    return None


def _check_signature(info: GraphInfo, session: onnxruntime.InferenceSession) -> int | None:
    """Compare inputs and outputs with the description; give the batch size if it is fixed."""
    per_run = info.samples_per_run
    # Between batch and features: nothing in a step graph, T samples in a chunk graph, any number
    # in a sequence graph, which may pool over them.
    between = {"step": (), "chunk": (per_run,), "sequence": (None,)}[info.mode]
    inputs = {"x": [(*between, info.d_input)]}
    outputs = {"y": [(*between, info.d_output)]}
    if info.streams:
        inputs["state"] = outputs["next_state"] = [(info.state_floats,)]
    else:
        outputs["y"].append((info.d_output,))
    batches = set()
    for kind, found, wanted in (
        ("inputs", session.get_inputs(), inputs),
        ("outputs", session.get_outputs(), outputs),
    ):
        as_described = {port.name for port in found} == set(wanted) and all(
            port.type == "tensor(float)"
            and any(_is_shape(port.shape[1:], shape) for shape in wanted[port.name])
            for port in found
        )
        if not as_described:
            has = ", ".join(f"{port.name} {port.type}{port.shape}" for port in found)
            needs = ", ".join(
                f"{name} (batch, {', '.join(str(each or 'length') for each in shapes[0])})"
                for name, shapes in wanted.items()
            )
            raise S4EdgeError(
                f"{info.path} is not the {info.mode} graph that it is described as: its {kind} are "
                f"{has or 'none'}, not {needs}; export it again with: {EXPORT_HINT}"
            )
        batches |= {port.shape[0] for port in found if _is_int(port.shape[0])}
    if len(batches) > 1:
        raise S4EdgeError(
            f"{info.path} mixes batch sizes {sorted(batches)}; export it again with: {EXPORT_HINT}"
        )
    return batches.pop() if batches else None


def _is_shape(found: Sequence[object], wanted: Sequence[int | None]) -> bool:
    """Whether sizes are as wanted; those that a graph leaves open are names or None."""
    return len(found) == len(wanted) and all(
        size == want or want is None or not _is_int(size) for size, want in zip(found, wanted)
    )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_int(value) and value >= 1


def _is_count_or_none(value: Any) -> bool:
    return value is None or _is_count(value)


def _is_rate_or_none(value: Any) -> bool:
    # A comparison that NaN fails, which Python's json reads.
    return value is None or ((_is_int(value) or isinstance(value, float)) and 0 < value < 1e12)


# What the description must hold: a test of the value, and the words for a value that fails it.
_EXPECTED: dict[str, tuple[Any, str]] = {
    "format": (_is_count, "a positive integer"),
    "mode": (lambda value: isinstance(value, str), "a string"),
    "samples_per_run": (_is_count_or_none, "a positive integer or null"),
    "d_input": (_is_count, "a positive integer"),
    "d_output": (_is_count, "a positive integer"),
    "state_floats": (lambda value: _is_int(value) and value >= 0, "a whole number"),
    "pooling": (lambda value: isinstance(value, str), "a string"),
    "length": (_is_count_or_none, "a positive integer or null"),
    "exact_samples": (_is_count_or_none, "a positive integer or null"),
    "tokens": (_is_count_or_none, "a positive integer or null"),
    "source": (lambda value: isinstance(value, str), "a string"),
    "state_size": (
        lambda value: (
            value is None or _is_int(value) or (isinstance(value, float) and 0 <= value < math.inf)
        ),
        "a number or null",
    ),
    "version": (lambda value: isinstance(value, str), "a string"),
}
# What graphs of older versions lack; null is the same as absent.
_OPTIONAL: dict[str, tuple[Any, str]] = {
    "rate": (_is_rate_or_none, "a positive number or null"),
}


def _unreadable(path: Path, what: str) -> S4EdgeError:
    return S4EdgeError(
        f"{path}: its s4edge description {what}; export it again with: {EXPORT_HINT}"
    )
