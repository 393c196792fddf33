"""Options of widths and of the ranks of dense layers, and what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from s4edge.cli.terminal import Command
from s4edge.errors import S4EdgeError

if TYPE_CHECKING:
    from s4edge.compression.dense.step import ReduceRank
    from s4edge.compression.width.step import ReduceWidth

_TOLERANCE = 0.1


def dense_options(command: Command) -> Command:
    """Add ``--width``, ``--rank`` and ``--rank-tolerance``."""
    options = (
        click.option(
            "--width", metavar="W",
            help="Keep W features of the residual stream (48), or a fraction of them (0.75): those "
            "that the output needs, the rest refitted on the calibration data. Takes --calibrate.",
        ),
        click.option(
            "--rank", metavar="R",
            help="Make layers' matrices products of two where that takes fewer multiply-adds, the "
            "closest ones on the calibration data: of rank R (16), down to a fraction of their "
            "multiply-adds (0.5), spent where the output needs it, or auto: down to the error of "
            "--rank-tolerance. Takes --calibrate.",
        ),
        click.option(
            "--rank-tolerance", type=float, metavar="E",
            help="With --rank auto: the relative error of the output that ranks may cost.  "
            f"[default: {_TOLERANCE:g}]",
        ),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def rank_step(rank: str | None, tolerance: float | None) -> ReduceRank | None:
    """The step that options ask for, or None.

    Raises:
        S4EdgeError: it is no rank.
    """
    if rank != "auto" and tolerance is not None:
        raise click.UsageError("--rank-tolerance goes with --rank auto")
    if rank is None:
        return None
    from s4edge.compression.dense.step import ReduceRank

    if rank == "auto":
        return ReduceRank(tolerance=_TOLERANCE if tolerance is None else tolerance)
    number = _number(rank)
    if number is None:
        raise S4EdgeError(f"--rank takes a whole number, a fraction as 0.5, or auto; got {rank!r}")
    return ReduceRank(number) if isinstance(number, int) else ReduceRank(fraction=number)


def width_step(width: str | None) -> ReduceWidth | None:
    """The step that an option asks for, or None.

    Raises:
        S4EdgeError: it is no width.
    """
    if width is None:
        return None
    from s4edge.compression.width.step import ReduceWidth

    number = _number(width)
    if number is None:
        raise S4EdgeError(f"--width takes a whole number or a fraction as 0.75, got {width!r}")
    return ReduceWidth(number) if isinstance(number, int) else ReduceWidth(fraction=number)


def _number(text: str) -> int | float | None:
    """A whole number as an int; None where it is no number."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def dense_suffix(width: str | None, rank: str | None) -> str:
    """Of the file that is written."""
    return ("" if width is None else f"-w{width}") + ("" if rank is None else f"-rank{rank}")
