"""How commands talk: tables for people on stdout, notes on stderr, one JSON object with --json."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console

if TYPE_CHECKING:
    from s4edge.workflows.audience import Audience

Command = TypeVar("Command", bound=Callable[..., Any])

console = Console(emoji=False)
notes = Console(stderr=True, emoji=False)


def json_option(command: Command) -> Command:
    """Add ``--json`` as the parameter ``as_json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object on stdout, nothing else."
    )(command)


def verbose_option(command: Command) -> Command:
    """Add ``-v`` as the parameter ``verbose``."""
    return click.option("-v", "--verbose", is_flag=True, help="Say more.")(command)


def emit_json(answer: dict[str, Any]) -> None:
    """Print the one JSON object of a command."""
    click.echo(json.dumps(answer, allow_nan=False))


def note(text: str) -> None:
    """Tell a person something that is not the answer, on stderr."""
    notes.print(text, markup=False, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def progress(description: str) -> Iterator[Callable[[float], None]]:
    """A progress bar on a terminal's stderr, nothing in a pipe.

    Where the environment's S4EDGE_PROGRESS is ``lines``, a pipe gets the fractions as lines: for
    `s4edge.bench.remote`, which shows them on the terminal at its end.

    Yields:
        A function to call with the fraction done, 0 to 1.
    """
    if not sys.stderr.isatty():
        lines = os.environ.get("S4EDGE_PROGRESS") == "lines"
        yield _tell_fraction if lines else lambda fraction: None
        return
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(),
        TextColumn("left:"), TimeRemainingColumn(),
    )  # fmt: skip
    # What ends once in minutes tells the speed, too.
    with Progress(*columns, console=notes, transient=True, speed_estimate_period=3600) as bar:
        task = bar.add_task(description, total=1.0)
        yield lambda fraction: bar.update(task, completed=fraction)


def _tell_fraction(fraction: float) -> None:
    click.echo(f"s4edge-progress {fraction:.3f}", err=True)


def audience(verbose: bool = False) -> Audience:
    """The person at the terminal, as workflows tell it things; in detail if ``verbose``."""
    from s4edge.workflows.audience import NOBODY, Audience

    return Audience(note, progress, note if verbose else NOBODY.detail)
