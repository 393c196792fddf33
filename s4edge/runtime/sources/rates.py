"""Whether samples come as fast as the model expects, and how to make them."""

from __future__ import annotations

import math
import shlex

from s4edge.errors import S4EdgeError
from s4edge.runtime.description import GraphInfo
from s4edge.runtime.sources.source import warn_once

# How sox says what ffmpeg calls by one name.
_SOX = {
    "s8": "-e signed -b 8", "u8": "-e unsigned -b 8", "s16le": "-e signed -b 16",
    "s24le": "-e signed -b 24", "s32le": "-e signed -b 32", "f32le": "-e float -b 32",
    "f64le": "-e float -b 64",
}  # fmt: skip


def agreed_rate(
    info: GraphInfo,
    name: str,
    kind: str,
    held: float | None,
    told: float | None,
    warnings: list[str],
) -> float | None:
    """The rate of a source, checked against what the graph expects.

    Args:
        info: of the graph.
        name: of the source.
        kind: its format.
        held: the rate that the file states, or None.
        told: what the person said: the file's rate if that states none, else the graph's.
        warnings: is told where nothing could be checked.

    Raises:
        S4EdgeError: they differ; with the command that resamples.
    """
    if held is None:
        if told is not None and info.rate is not None and not _same(told, info.rate):
            raise S4EdgeError(
                f"{name} has {told:g} samples per second as --rate says, {info.path} expects "
                f"{info.rate:g}; {_mend(info, name, kind, told, info.rate)}"
            )
        return told if told is not None else info.rate
    if told is not None and info.rate is not None and not _same(told, info.rate):
        raise S4EdgeError(
            f"--rate says {told:g} samples per second, {info.path} expects {info.rate:g}; leave "
            "--rate out, or export the graph again with the right --rate"
        )
    expected = info.rate if info.rate is not None else told
    if expected is None:
        warn_once(
            warnings,
            f"{info.path} does not say which sample rate it expects; {name} has {held:g} Hz. Say "
            "it with --rate, or export the graph again with --rate",
        )
    elif not _same(held, expected):
        said = f"{info.path} expects" if info.rate is not None else "--rate says"
        raise S4EdgeError(
            f"{name} has {held:g} samples per second, {said} {expected:g}; "
            f"{_mend(info, name, kind, held, expected)}"
        )
    return held


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-6)


def _mend(info: GraphInfo, name: str, kind: str, held: float, expected: float) -> str:
    """How to get the expected rate."""
    piped = name == "standard input"
    if kind == "wav" and piped:
        fix = (
            f"resample it in the pipe: ... | sox -t wav - -t wav -r {expected:g} - | s4edge run "
            f"... -, or record at that rate: arecord -r {expected:g}"
        )
    elif kind == "wav":
        quoted = shlex.quote(name)
        fix = (
            f"resample it: ffmpeg -i {quoted} -ar {expected:g} resampled.wav (or: sox {quoted} "
            f"-r {expected:g} resampled.wav)"
        )
    elif kind in _SOX:
        width = info.d_input
        source, target = ("-", "-") if piped else (shlex.quote(name), "resampled.raw")
        fix = (
            f"resample it: ffmpeg -f {kind} -ar {held:g} -ac {width} -i {source} -f {kind} "
            f"-ar {expected:g} {target} (or: sox -t raw -r {held:g} {_SOX[kind]} -c {width} "
            f"{source} -t raw -r {expected:g} {target})"
        )
    else:
        fix = f"resample it to {expected:g}"
    return f"{fix}; or export the graph again if its rate is wrong: s4edge export --onnx --rate HZ"
