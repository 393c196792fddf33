"""Options of the rates at which layers run, and what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from s4edge.cli.terminal import Command
from s4edge.errors import S4EdgeError

if TYPE_CHECKING:
    from s4edge.compression.rates.step import ReduceRate


def rate_options(command: Command) -> Command:
    """Add ``--rate``, ``--macs`` and ``--rate-tolerance``."""
    options = (
        click.option(
            "--rate", metavar="STRIDES",
            help="Run layers once for several samples: strides behind each layer (2,2,2,1), with "
            "one more number first for the input (2,1,2,2,1), or auto: chosen by error on the "
            "calibration data for multiply-adds saved.",
        ),
        click.option(
            "--macs", type=int, metavar="N",
            help="With --rate auto: down to N multiply-adds per sample.",
        ),
        click.option(
            "--rate-tolerance", type=float, metavar="E",
            help="With --rate auto: the relative error of the output that strides may cost.  "
            "[default: 0.2; any with --macs]",
        ),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def rate_step(rate: str | None, macs: int | None, tolerance: float | None) -> ReduceRate | None:
    """The step that options ask for, or None.

    Raises:
        S4EdgeError: they are no strides.
    """
    if rate != "auto":
        for option, value in (("--macs", macs), ("--rate-tolerance", tolerance)):
            if value is not None:
                raise click.UsageError(f"{option} goes with --rate auto")
    if rate is None:
        return None
    from s4edge.compression.rates.step import ReduceRate

    if rate == "auto":
        return ReduceRate(macs=macs, error=tolerance)
    try:
        return ReduceRate(tuple(int(stride) for stride in rate.split(",")))
    except ValueError:
        raise S4EdgeError(
            f"--rate takes whole numbers, as 2,2,2,1, or auto; got {rate!r}"
        ) from None


def rate_suffix(rate: str | None) -> str:
    """Of the file that is written."""
    return "" if rate is None else "-r" + rate.replace(",", "-")
