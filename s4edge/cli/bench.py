"""``s4edge bench``: what graphs cost on this machine."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import click

from s4edge.cli import terminal
from s4edge.cli.bench_outputs import STDOUT, BenchOutputs
from s4edge.cli.bench_target import bench_target
from s4edge.errors import S4EdgeError

# Parameters that are for whoever measures, here or there.
_MEASURING = ("threads", "duration", "rate", "deadline")


def _newest() -> Path:
    from s4edge.runtime import newest_graph

    path = newest_graph(Path.cwd())
    if path is None:
        raise S4EdgeError(
            "no graph that s4edge wrote is in this folder; name one, or export one with: "
            "s4edge export MODEL --onnx"
        )
    terminal.notes.print(f"Taking {path.name}, the newest graph here.", markup=False)
    return Path(path.name)


@click.command()
@click.argument("models", nargs=-1, type=click.Path(path_type=Path), metavar="[MODEL]...")
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
    help="Samples per second of the stream: tells the share of real time that a model takes. "
    "Default: what the graph says.",
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
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.html",
    help="Write a page with tables and plots: one file that needs nothing else.",
)
@click.option(
    "--markdown",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE.md",
    help="Write a table to paste into an issue; - prints it instead of the usual one.",
)
@click.option(
    "--compare",
    is_flag=True,
    help="Measure nothing: set files that -o wrote side by side, of several boards or runs.",
)
@click.option(
    "--host",
    metavar="USER@BOARD",
    help="Measure there, over ssh: the graphs are copied into a folder that is removed afterwards.",
)
@click.option(
    "--remote-command",
    metavar="COMMAND",
    help="The s4edge of --host, such as .venv/bin/s4edge.  [default: s4edge]",
)
@click.option(
    "--ssh-option",
    "ssh_options",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of ssh's, as its -o takes it, such as Port=2222; may be repeated.",
)
@click.option(
    "--target",
    metavar="NAME",
    help="Of C files: instructions, flash, RAM and stack on an emulated microcontroller: "
    "cortex-m0plus, cortex-m3, cortex-m4, cortex-m7 or cortex-m55.",
)
@terminal.json_option
@terminal.verbose_option
def bench(
    models: tuple[Path, ...],
    threads: int,
    duration: float,
    rate: float | None,
    deadline: float | None,
    saved: Path | None,
    html: Path | None,
    markdown: Path | None,
    compare: bool,
    host: str | None,
    remote_command: str | None,
    ssh_options: tuple[str, ...],
    target: str | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Measure latency and memory of exported models on this machine, or on a board.

    MODEL is an .onnx graph, an .so library, or a .c file, which is compiled. Several models are
    measured in turns and shown side by side, with the ratio of their times to the first's. Without
    MODEL it takes the newest graph or library here. Ctrl-C ends it early and keeps
    what was found so far.

    \b
      s4edge bench a.onnx b.onnx --rate 16000 -o board.json --html board.html
      s4edge bench a.onnx a.so
      s4edge bench a.onnx b.onnx --host pi@board --remote-command .venv/bin/s4edge
      s4edge bench --compare board.json laptop.json
    """  # noqa: D301
    if target is not None:
        bench_target(models, target, rate, as_json)
        return
    # Here and not above, so that `s4edge --help` does not wait for numpy.
    from s4edge import bench as benchmark

    _check_usage(compare, host, remote_command, ssh_options, markdown, as_json)
    outputs = BenchOutputs(saved, html, markdown, as_json, verbose)
    if compare:
        from s4edge.bench.compare import compare_files

        outputs.check(models)
        outputs.write_comparison(compare_files(models))
        return
    if not models:
        models = (_newest(),)
    outputs.check(models)
    failure: str | None = None
    with _ended_as_by_ctrl_c() as status:
        if host is not None:
            answer, failure = _bench_there(host, models, remote_command, ssh_options)
        else:
            try:
                with terminal.progress("Measuring") as progress:
                    result = benchmark.bench(models, threads, duration, rate, deadline, progress)
            except benchmark.BenchFailedError as error:
                result, failure = error.result, str(error)
            answer = result.to_json()
    outputs.write(answer, failure)
    if answer["interrupted"]:
        click.get_current_context().exit(status())


def _check_usage(
    compare: bool,
    host: str | None,
    remote_command: str | None,
    ssh_options: tuple[str, ...],
    markdown: Path | None,
    as_json: bool,
) -> None:
    if host is None and (remote_command is not None or ssh_options):
        raise click.UsageError("--remote-command and --ssh-option are for --host")
    if as_json and markdown == STDOUT:
        raise click.UsageError("--json and --markdown - both want standard output; take one")
    given = [name for name, _ in _measuring_options()]
    if host is not None:
        given.append("--host")
    if compare and given:
        raise click.UsageError(f"--compare measures nothing; leave out {', '.join(given)}")


def _measuring_options() -> list[tuple[str, list[str]]]:
    """Options that say how to measure, as they were given: name and words."""
    context = click.get_current_context()
    found = []
    for parameter in context.command.params:
        name = str(parameter.name)
        given = context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        if given and name in _MEASURING:
            option = max(parameter.opts, key=len)
            found.append((option, [option, str(context.params[name])]))
    return found


def _bench_there(
    host: str,
    models: tuple[Path, ...],
    command: str | None,
    ssh_options: tuple[str, ...],
) -> tuple[dict[str, Any], str | None]:
    """Measure on another machine; give the answer, and why it is not all."""
    from s4edge.bench.remote import RemoteBench
    from s4edge.runtime import read_info

    for model in models:
        read_info(model)  # a bad one is found here sooner than there
    far = RemoteBench(
        host,
        models,
        [word for _, words in _measuring_options() for word in words],
        "s4edge" if command is None else command,
        ssh_options,
        terminal.note,
        interactive=sys.stdin.isatty() and sys.stderr.isatty(),
    )
    with far, terminal.progress(f"Measuring on {host}") as progress:
        return far.answer(progress), far.failure


@contextlib.contextmanager
def _ended_as_by_ctrl_c() -> Iterator[Callable[[], int]]:
    """Let SIGTERM, and a connection that breaks off, end it as Ctrl-C does: what was found is kept.

    Yields:
        A function that gives the exit status of an interrupted command.
    """
    received = int(signal.SIGINT)
    before: dict[int, Any] = {}

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received = number
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # Not where somebody has it ignored, as nohup does.
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, interrupt)
    try:
        yield lambda: 128 + received
    except KeyboardInterrupt:
        if received == signal.SIGINT:
            raise
        raise SystemExit(128 + received) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
