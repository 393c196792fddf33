"""Options of commands that do many independent runs: where, and how many at a time."""

from __future__ import annotations

import click

from s4edge.cli.terminal import Command


def engine_options(command: Command) -> Command:
    """Add ``--workers``, ``--threads`` and ``--engine``, the last as the parameter ``where``."""
    options = (
        click.option(
            "--workers", type=click.IntRange(min=1), metavar="N",
            help="Runs at a time, each in a process of its own.  [default: 1, in this one]",
        ),
        click.option(
            "--threads", type=click.IntRange(min=1), metavar="T",
            help="Threads of each run.  [default: the cores over the workers; on a cluster 1]",
        ),
        click.option(
            "--engine", "where", default="local", show_default=True, metavar="ENGINE",
            help="Who does the runs: local, or a cluster, dask=ADDRESS or ray=ADDRESS (dask, ray: "
            "one started here).",
        ),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command
