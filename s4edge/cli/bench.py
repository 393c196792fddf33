"""``s4edge bench``: what graphs cost on this machine."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from s4edge.cli import output
from s4edge.errors import S4EdgeError
from s4edge.files import check_writable

if TYPE_CHECKING:
    from s4edge.runtime import BenchResult


def _newest() -> Path:
    from s4edge.runtime import newest_graph

    path = newest_graph(Path.cwd())
    if path is None:
        raise S4EdgeError(
            "no graph that s4edge wrote is in this folder; name one, or export one with: "
            "s4edge export MODEL --onnx"
        )
    output.notes.print(f"Taking {path.name}, the newest graph here.", markup=False)
    return Path(path.name)


@click.command()
@click.argument("models", nargs=-1, type=click.Path(path_type=Path), metavar="[MODEL.onnx]...")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Threads that one run may use, each on a core of its own.",
)
@click.option(
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to measure each model. Minutes show whether the board keeps its speed.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="HZ",
    help="Samples per second of the stream: tells the share of real time that a model takes.",
)
@click.option(
    "--deadline",
    type=click.FloatRange(min=0, min_open=True),
    metavar="US",
    help="Microseconds that a run may take; with --rate from when it is due, at that pace.",
)
@click.option(
    "-o",
    "--output",
    "saved",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.json",
    help="Write the answer of --json there, too.",
)
@output.json_option
@output.verbose_option
def bench(
    models: tuple[Path, ...],
    threads: int,
    duration: float,
    rate: float | None,
    deadline: float | None,
    saved: Path | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Measure latency and memory of exported graphs on this machine.

    Several models are measured in turns and shown side by side, with the ratio of their times to
    the first's. Without MODEL.onnx it takes the newest graph here. Ctrl-C ends it early and keeps
    what was found so far.
    """
    # Here and not above, so that `s4edge --help` does not wait for onnxruntime.
    from s4edge import runtime

    if not models:
        models = (_newest(),)
    if saved is not None:
        check_writable(saved, None, *models)
    failure: S4EdgeError | None = None
    with _sigterm_as_interrupt() as status:
        try:
            with output.progress("Measuring") as progress:
                result = runtime.bench(models, threads, duration, rate, deadline, progress)
        except runtime.BenchFailedError as error:
            result, failure = error.result, error
    try:
        if saved is not None:
            runtime.write_bench(saved, result.to_json())
    except S4EdgeError as error:
        failure = failure or error
    _tell(result, as_json, verbose)
    if failure is not None:
        raise S4EdgeError(str(failure))
    if result.interrupted:
        click.get_current_context().exit(status())


def _tell(result: BenchResult, as_json: bool, verbose: bool) -> None:
    from s4edge.runtime.report import bench_report

    if as_json:
        output.emit_json(result.to_json())
    else:
        for part in bench_report(result, verbose):
            output.console.print(part)
    for warning in result.warnings:
        output.note(f"Warning: {warning}")


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[Callable[[], int]]:
    """Let SIGTERM end the measuring as Ctrl-C does, so that what was found is kept.

    Yields:
        A function that gives the exit status of an interrupted command.
    """
    received = signal.SIGINT

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received = signal.SIGTERM
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield lambda: 128 + received
    except KeyboardInterrupt:
        if received == signal.SIGINT:
            raise
        raise SystemExit(128 + received) from None
    finally:
        signal.signal(signal.SIGTERM, before)
