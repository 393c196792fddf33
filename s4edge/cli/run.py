"""``s4edge run``: a recording or a live signal through a graph, answers as they come."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from s4edge.cli import terminal
from s4edge.errors import S4EdgeError

if TYPE_CHECKING:
    from s4edge.runtime.answers import Answer, StreamRun

# Where the rate is known, an answer is given this often.
_DEFAULT_SECONDS = 0.1
_RAW = ("s16le", "s8", "u8", "s24le", "s32le", "f32le", "f64le")


def _span(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[float, bool] | None:
    """Samples (``400``) or seconds of signal (``0.1s``): a number, and whether it is seconds."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)(s?)", value.strip())
    if found is None or not float(found[1]) or (not found[2] and "." in found[1]):
        raise click.BadParameter(f"{value!r} is neither samples, as 400, nor seconds, as 0.1s")
    return float(found[1]), bool(found[2])


@click.command()
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL")
@click.argument("source", metavar="INPUT")
@click.option(
    "--format", "kind", type=click.Choice([*_RAW, "wav", "npy", "npz", "csv"]),
    help="What INPUT is.  [default: told by its name and beginning; raw samples on standard input "
    "are s16le]",
)  # fmt: skip
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), metavar="HZ",
    help="Samples per second of raw samples, arrays and tables. Of a .wav, what the graph expects "
    "where it does not say so itself.",
)  # fmt: skip
@click.option("--channel", type=click.IntRange(min=1), help="Of a .wav, the one to take, from 1.")
@click.option(
    "--columns", metavar="A,B,...", help="Of a table, those to take: names, or numbers from 1."
)
@click.option(
    "--index", type=click.IntRange(min=0), metavar="I",
    help="Of an array (samples, length, d_input), the sequence to take, from 0.",
)  # fmt: skip
@click.option(
    "--scale", type=float, default=1.0, metavar="F",
    help="Multiply samples by this. PCM comes as -1 <= x < 1, all else as it is.",
)  # fmt: skip
@click.option("--offset", type=float, default=0.0, metavar="F", help="Add this then.")
@click.option(
    "--normalize", is_flag=True,
    help="First scale the recording to a largest magnitude of 1 (it is read twice).",
)  # fmt: skip
@click.option(
    "--reset", callback=_span, metavar="N|Ts",
    help="Start over from zero state after N samples or T seconds. The last answer of each "
    "sequence is always given.  [default: never; a model's own length where it has one]",
)  # fmt: skip
@click.option(
    "--take", callback=_span, metavar="N|Ts", help="Only the first N samples or T seconds."
)
@click.option("--pad", is_flag=True, help="Fill up the last sequence of --reset with zeros.")
@click.option(
    "--every", callback=_span, metavar="N|Ts",
    help="An answer every N samples or T seconds.  [default: 0.1s; every sample where no rate is "
    "known]",
)  # fmt: skip
@click.option("--last", is_flag=True, help="Only the last answer.")
@click.option(
    "--classes/--no-classes", default=None,
    help="Outputs are scores of classes: tell the best.  [default: yes where the model pools over "
    "time]",
)  # fmt: skip
@click.option("--labels", metavar="A,B,...", help="Names of the classes.")
@click.option(
    "--on-nan", type=click.Choice(["error", "skip", "zero"]), default="error", show_default=True,
    help="What to do with samples that are NaN or infinite.",
)  # fmt: skip
@click.option(
    "-o", "--output", "path", type=click.Path(path_type=Path), metavar="FILE",
    help="Write the lines to FILE, which gets its name at the end; Ctrl-C is an end, too.",
)  # fmt: skip
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True,
    help="Threads that one run of the graph may use.",
)  # fmt: skip
@terminal.json_option
@terminal.verbose_option
def run(
    model: Path,
    source: str,
    kind: str | None,
    rate: float | None,
    channel: int | None,
    columns: str | None,
    index: int | None,
    scale: float,
    offset: float,
    normalize: bool,
    reset: tuple[float, bool] | None,
    take: tuple[float, bool] | None,
    pad: bool,
    every: tuple[float, bool] | None,
    last: bool,
    classes: bool | None,
    labels: str | None,
    on_nan: str,
    path: Path | None,
    threads: int,
    as_json: bool,
    verbose: bool,
) -> None:
    """Stream INPUT through MODEL, and write answers as they come.

    MODEL is an .onnx graph, an .so library, or a .c file, which is compiled.
    INPUT is a .wav, .npy, .npz or .csv file, or - for standard input: raw samples or a .wav.
    Answers are lines of JSON in a pipe, one live line on a terminal.

    \b
      s4edge run model.onnx recording.wav
      arecord -t raw -f S16_LE -c 1 -r 4000 | s4edge run model.onnx - --rate 4000
    """  # noqa: D301
    if every is not None and last:
        raise click.UsageError("--every and --last exclude each other")
    from s4edge.files import check_writable, is_special
    from s4edge.runtime import open_graph
    from s4edge.runtime.answers import StreamRun
    from s4edge.runtime.sources import open_source
    from s4edge.runtime.stopping import StopBetween

    if path is not None and not is_special(path):
        check_writable(path, model, None if source == "-" else source)
    with _interrupted_early():
        graph = open_graph(model, threads)
        names = _listed(labels)
        if names is not None and len(names) != graph.info.d_output:
            raise S4EdgeError(
                f"--labels names {len(names)} classes, {model} has {graph.info.d_output} outputs"
            )
        opened = open_source(
            source, graph.info, format=kind, rate=rate, channel=channel, columns=_listed(columns),
            index=index, stdin=getattr(sys.stdin, "buffer", None),
        )  # fmt: skip
        if normalize:
            if not opened.again:
                raise S4EdgeError(
                    f"--normalize reads a recording twice, which {opened.name} does not allow: "
                    "record to a file first, or give --scale"
                )
            scale /= opened.peak() or 1.0
    if every is None and not last:
        every = (_DEFAULT_SECONDS, True) if opened.rate is not None else (1, False)
    with StopBetween() as stop:
        stream = StreamRun(
            graph, dataclasses.replace(opened, read=lambda: stop.blocks(opened.read())),
            every=_samples("--every", every, opened.rate),
            reset=_samples("--reset", reset, opened.rate),
            take=_samples("--take", take, opened.rate), pad=pad, scale=scale, offset=offset,
            on_nan=on_nan, classes=True if names is not None and classes is None else classes,
        )  # fmt: skip
        trouble: BaseException | None = None
        written = 0
        try:
            for count in _written(stream, path, last, names, as_json):
                written = count
        except (S4EdgeError, KeyboardInterrupt, SystemExit) as error:
            trouble = error
        if as_json and stream.last is not None:
            terminal.emit_json(
                {
                    "model": str(model),
                    "input": opened.name,
                    "output": None if path is None else str(path),
                    "answers": written,
                    **_summary(stream, names),
                    "interrupted": isinstance(trouble, (KeyboardInterrupt, SystemExit)),
                    "error": str(trouble) if isinstance(trouble, S4EdgeError) else None,
                }
            )
        _tell(stream, path, written, as_json, verbose)
    if isinstance(trouble, KeyboardInterrupt):
        terminal.note(f"Interrupted after {stream.samples} samples.")
        sys.exit(130)
    if trouble is not None:
        raise trouble


@contextlib.contextmanager
def _interrupted_early() -> Iterator[None]:
    """Ctrl-C before there is an answer to keep, as while a pipe is waited for."""
    try:
        yield
    except KeyboardInterrupt:
        terminal.note("Interrupted before the first sample.")
        sys.exit(130)


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [each.strip() for each in text.split(",")]


def _samples(option: str, span: tuple[float, bool] | None, rate: float | None) -> int | None:
    if span is None:
        return None
    number, seconds = span
    if not seconds:
        return int(number)
    if rate is None:
        raise S4EdgeError(f"{option} is in seconds, but no rate is known: say it with --rate HZ")
    return max(1, round(number * rate))


def _written(
    stream: StreamRun, path: Path | None, last: bool, names: list[str] | None, as_json: bool
) -> Iterator[int]:
    """Hand each answer to where it belongs, file, terminal or pipe; give their number so far."""
    from s4edge.reports.live_line import LiveLine
    from s4edge.runtime.answer_file import answer_file

    with contextlib.ExitStack() as stack:
        takers: list[Callable[[Answer], None]] = []
        if path is not None:
            lines = stack.enter_context(answer_file(path))
            takers.append(lambda answer: lines.write(json.dumps(answer.to_json(names))))
        if not as_json and terminal.console.is_terminal:
            takers.append(stack.enter_context(LiveLine(terminal.console, stream, names)).show)
        elif not as_json and path is None:
            takers.append(lambda answer: _echo(json.dumps(answer.to_json(names))))
        for count, answer in enumerate(_kept(stream, last), 1):
            for take in takers:
                take(answer)
            yield count


def _kept(stream: StreamRun, last: bool) -> Iterator[Answer]:
    """All answers, or the last one only, also where an error is the end."""
    if not last:
        yield from stream
        return
    trouble: BaseException | None = None
    try:
        for _ in stream:
            pass
    except (S4EdgeError, KeyboardInterrupt, SystemExit) as error:
        trouble = error
    if stream.last is not None:
        yield stream.last
    if trouble is not None:
        raise trouble


def _echo(line: str) -> None:
    """Print a line at once: whoever reads the pipe waits for it."""
    try:
        click.echo(line)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # the reader has gone: a quiet end
        raise S4EdgeError(f"cannot write to standard output: {error.strerror}") from error


def _summary(stream: StreamRun, names: list[str] | None) -> dict[str, Any]:
    """The last answer and what it took, for ``--json``."""
    assert stream.last is not None
    return {
        "samples": stream.samples,
        "seconds": None,
        "class": None,
        **stream.last.to_json(names),
        "real_time_factor": stream.real_time_factor,
        "us_per_sample": stream.us_per_sample,
        "warnings": stream.warnings,
    }


def _tell(stream: StreamRun, path: Path | None, written: int, as_json: bool, verbose: bool) -> None:
    """What a person should know beside the answers, on stderr."""
    if not as_json:
        for warning in stream.warnings:
            terminal.note(f"Warning: {warning}.")
        if path is not None and written:
            terminal.note(f"Wrote {path}: {written} answer{'' if written == 1 else 's'}.")
    if verbose and stream.us_per_sample is not None:
        unit = "µs" if terminal.notes.encoding.lower().startswith("utf") else "us"
        factor = stream.real_time_factor
        terminal.note(
            f"{stream.samples} samples, {stream.us_per_sample:.4g} {unit} per sample"
            + ("" if factor is None else f", real-time factor {factor:.3g}")
        )
