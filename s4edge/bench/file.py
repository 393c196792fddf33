"""The answer of ``s4edge bench`` as a file: writing it whole, reading it back with checks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s4edge.bench.results import FORMAT, BenchResult, GraphResult
from s4edge.errors import S4EdgeError
from s4edge.files import write_text
from s4edge.foreign import parse_json, read_text
from s4edge.json_codec import MisfitError, decode

_NAMES = {str: "string", bool: "truth", int: "count", float: "number"}


def write_bench(path: Path | str, answer: Mapping[str, Any]) -> None:
    """Write an answer as JSON; the old file stays where that fails.

    Raises:
        S4EdgeError: the file cannot be written.
    """
    write_text(Path(path), json.dumps(answer, allow_nan=False, indent=1) + "\n")


def read_bench(path: Path | str) -> dict[str, Any]:
    """Read what ``s4edge bench --json`` or ``-o`` wrote.

    Returns:
        The answer, every key of format 1 there and of its type; keys that this s4edge does not
        know are kept unread.

    Raises:
        S4EdgeError: no such file, no answer of ``s4edge bench``, or one of a newer s4edge.
    """
    path = Path(path)
    try:
        text = read_text(path)
    except FileNotFoundError as error:
        raise S4EdgeError(f"{path} does not exist") from error
    except OSError as error:
        raise S4EdgeError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _foreign(path, "it is no text") from error
    except ValueError as error:
        raise _foreign(path, str(error)) from error
    return parse_bench(text, path)


def parse_bench(text: str, source: Path | str) -> dict[str, Any]:
    """Check the text of an answer.

    Args:
        text: one JSON object.
        source: where it came from, for messages.

    Raises:
        S4EdgeError: as `read_bench` does.
    """
    try:
        answer = parse_json(text, signs=False)
    except ValueError as error:
        reason = "it is cut short or no JSON" if text.strip() else "it is empty"
        raise _foreign(source, reason) from error
    if not isinstance(answer, dict) or "results" not in answer or "device" not in answer:
        raise _foreign(source, "it has no device and no results")
    written = answer.get("format")
    if written is None:
        raise S4EdgeError(
            f"{source} was written by an older s4edge, without percentiles and conditions; measure "
            "again with: s4edge bench -o FILE.json"
        )
    if isinstance(written, int) and not isinstance(written, bool) and written > FORMAT:
        raise S4EdgeError(
            f"{source} has format {written}, newer than this s4edge knows ({FORMAT}); upgrade it "
            "with: pip install --upgrade s4edge"
        )
    if type(written) is not int or written < 0:
        raise _foreign(source, f"format is {_shown(written)}, not a count")
    try:
        found = result_of(answer)
    except MisfitError as error:
        raise _foreign(source, _told(error)) from error
    wrong = next(filter(None, map(_uneven, found.results)), None)
    if wrong is not None:
        raise _foreign(source, wrong)
    return answer


def result_of(answer: Mapping[str, Any]) -> BenchResult:
    """Give back what `BenchResult.to_json` was called on, but for digits that it cut.

    Args:
        answer: as `parse_bench` gives it; keys that this s4edge does not know are left out.

    Raises:
        MisfitError: it is something else.
    """
    result: BenchResult = decode(BenchResult, answer, strict=False)
    return result


def _foreign(source: Path | str, reason: str) -> S4EdgeError:
    return S4EdgeError(
        f"{source} is no answer of s4edge bench ({reason}); write one with: "
        "s4edge bench -o FILE.json"
    )


def _told(error: MisfitError) -> str:
    if error.problem == "missing":
        return f"{error.path}.{error.value} is missing".lstrip(".")
    if error.wanted in (list, dict):
        return f"{error.path} is no {'list' if error.wanted is list else 'object'}"
    name = getattr(error.wanted, "name", None) or _NAMES[error.wanted]
    return f"{error.path} is {_shown(error.value)}, not a {name}"


def _shown(value: Any) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 40 else shown[:40] + "..."


def _uneven(result: GraphResult) -> str | None:
    edges, counts = result.histogram.edges_us, result.histogram.counts
    if len(edges) == len(counts) + 1:
        return None
    return f"a histogram has {len(edges)} edges around {len(counts)} counts"
