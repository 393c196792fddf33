"""The answer of ``s4edge bench`` as a file: writing it whole, reading it back with checks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s4edge.errors import S4EdgeError
from s4edge.files import write_text
from s4edge.foreign import parse_json, read_text

FORMAT = 1


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
    return check_bench(answer, source)


def check_bench(answer: Any, source: Path | str) -> dict[str, Any]:
    """Check an answer that is parsed already. Arguments and errors are those of `parse_bench`."""
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
    wrong = _first_wrong(answer, _ANSWER, "")
    if wrong is None:
        wrong = next(filter(None, map(_uneven_histogram, answer["results"])), None)
    if wrong is not None:
        raise _foreign(source, wrong)
    return answer


def _foreign(source: Path | str, reason: str) -> S4EdgeError:
    return S4EdgeError(
        f"{source} is no answer of s4edge bench ({reason}); write one with: "
        "s4edge bench -o FILE.json"
    )


def _uneven_histogram(result: Mapping[str, Any]) -> str | None:
    edges, counts = result["histogram"]["edges_us"], result["histogram"]["counts"]
    if len(edges) == len(counts) + 1:
        return None
    return f"a histogram has {len(edges)} edges around {len(counts)} counts"


def _first_wrong(value: Any, shape: Any, where: str) -> str | None:
    """Say what is wrong with ``value``, None if nothing is.

    A shape is a name of a type, with "?" behind it where null will do; ``[shape]`` for a list of
    them; a dictionary of them for an object that has at least these keys; or ``_OrNull`` of one.
    """
    if isinstance(shape, _OrNull):
        return None if value is None else _first_wrong(value, shape.shape, where)
    if isinstance(shape, str):
        name = shape.rstrip("?")
        if (value is None and name != shape) or _TYPES[name](value):
            return None
        shown = json.dumps(value)
        return f"{where} is {shown if len(shown) <= 40 else shown[:40] + '...'}, not a {name}"
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{where} is no list"
        found = (
            _first_wrong(each, shape[0], f"{where}[{index}]") for index, each in enumerate(value)
        )
        return next(filter(None, found), None)
    if not isinstance(value, dict):
        return f"{where} is no object"
    for key, inner in shape.items():
        path = f"{where}.{key}" if where else key
        if key not in value:
            return f"{path} is missing"
        wrong = _first_wrong(value[key], inner, path)
        if wrong is not None:
            return wrong
    return None


class _OrNull:
    def __init__(self, shape: Any) -> None:
        self.shape = shape


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


_TYPES = {
    "number": _is_number,
    # Of what is never below 0, nor of a size that no measurement has.
    "number from 0 up": lambda value: _is_number(value) and (value == 0 or 1e-15 <= value < 1e15),
    "count": lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    "string": lambda value: isinstance(value, str),
    "truth": lambda value: isinstance(value, bool),
}


def _numbers(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "number from 0 up")


_RESULT = {
    "model": "string",
    "mode": "string",
    "samples_per_run": "count",
    "threads": "count",
    "latency_us": _numbers("min", "p50", "p90", "p99", "p999", "max", "mean"),
    "us_per_sample": "number from 0 up",
    "samples_per_second": "number from 0 up",
    "runs": "count",
    "state_size": "number from 0 up?",
    "model_bytes": "count",
    "state_bytes": "count",
    "histogram": {"edges_us": ["number from 0 up"], "counts": ["count"]},
    "rounds": [{"us_per_sample": "number from 0 up", "runs": "count"}],
    # The interval is null where there were too few rounds for one.
    "ratio": _OrNull(
        {
            "value": "number from 0 up",
            "low": "number from 0 up?",
            "high": "number from 0 up?",
            "confidence": "number from 0 up",
        }
    ),
    "rate_hz": "number from 0 up?",
    "real_time_factor": "number from 0 up?",
    "deadline": _OrNull(
        {
            "us": "number from 0 up",
            "period_us": "number from 0 up?",
            "runs": "count",
            "missed": "count",
            "missed_fraction": "number from 0 up",
            "response_us": _numbers("p50", "p99", "max"),
            # Null without a rate: runs back to back wait for nothing.
            "jitter_us": _OrNull(_numbers("p50", "p99", "max")),
        }
    ),
    "cold_start": _numbers(
        "first_answer_seconds", "import_seconds", "load_seconds", "first_run_us"
    ),
    "memory": {
        **dict.fromkeys(("peak_rss_bytes", "runtime_bytes", "model_bytes", "state_bytes"), "count"),
        "pss_bytes": "count?",
        "private_bytes": "count?",
    },
    "peak_rss_bytes": "count",
    "baseline_rss_bytes": "count",
    "load_seconds": "number from 0 up",
    "energy_uj_per_sample": "number from 0 up?",
}

_ANSWER = {
    "format": "count",
    "device": {
        "cpu": "string",
        "architecture": "string",
        "cores": "count",
        "memory_bytes": "count?",
        **dict.fromkeys(("os", "python", "numpy"), "string"),
        "onnxruntime": "string?",
        "emulated": "truth",
    },
    "runtime": "string",
    "threads": "count",
    "started": "string",
    "interrupted": "truth",
    "conditions": {
        "governor": "string?",
        "clock_mhz": _OrNull(_numbers("min", "max")),
        "temperature_c": _OrNull(dict.fromkeys(("start", "max"), "number")),
        "throttled": "truth?",
        "throttle_reasons": ["string"],
        "busy_others": "number from 0 up?",
    },
    "timeline": [
        {
            "seconds": "number from 0 up",
            "model": "string",
            "us_per_sample": "number from 0 up",
            "temperature_c": "number?",
            "clock_mhz": "number from 0 up?",
            "throttled": "truth?",
        }
    ],
    "warnings": ["string"],
    "results": [_RESULT],
}
