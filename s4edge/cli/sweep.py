"""``s4edge sweep``: the trade-off between states and accuracy or error."""

from __future__ import annotations

from pathlib import Path

import click

from s4edge.cli import terminal
from s4edge.cli.engine import engine_options
from s4edge.cli.models import set_option
from s4edge.cli.reduction import reduction_options
from s4edge.errors import S4EdgeError


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--states", metavar="N,N,...", help="State sizes: 32,16,8 or, halving, 2:32.  [default: halves]"
)
@reduction_options
@click.option("--data", metavar="DATA", help="Labelled data to measure accuracy or error on.")
@click.option(
    "--csv", "table_path", type=click.Path(path_type=Path), metavar="FILE.csv",
    help="Write the table, too.",
)  # fmt: skip
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE",
    help="Draw the curve into a .png, .svg or .pdf.",
)  # fmt: skip
@click.option(
    "--report", type=click.Path(path_type=Path), metavar="FILE.html",
    help="Write a page to look at, with the details of the smallest size.",
)  # fmt: skip
@click.option(
    "--keep", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Keep every size there as it is done, its model, too; called again, go on after them.",
)  # fmt: skip
@engine_options
@set_option
@terminal.json_option
@terminal.verbose_option
def sweep(
    model: Path,
    states: str | None,
    method: str,
    calibrate: str | None,
    memory: int | None,
    allocate: str,
    refine: bool | None,
    horizon: int | None,
    data: str | None,
    table_path: Path | None,
    plot: Path | None,
    report: Path | None,
    keep: Path | None,
    workers: int | None,
    threads: int | None,
    where: str,
    assignments: tuple[str, ...],
    as_json: bool,
    verbose: bool,
) -> None:
    """Reduce MODEL to a range of state sizes in one run and show what each costs and loses.

    What does not depend on the size (calibration, sensitivities, the channels' errors at every
    order) is done once; the sizes are runs of their own, which --workers does at the same time.
    Nothing is written but what is asked for.
    """
    from s4edge.checkpoints.facts import parse_assignments
    from s4edge.compression.states.step import ReduceStates
    from s4edge.reports.sweep import sweep_table
    from s4edge.workflows.independent_runs import Engine
    from s4edge.workflows.sweep import sweep_file

    if plot is not None and calibrate is None and data is None:
        raise click.UsageError("--plot has nothing to draw: add --calibrate or --data")
    answer = sweep_file(
        model,
        ReduceStates(method=method, allocate=allocate, refine=refine, horizon=horizon),
        states,
        facts=parse_assignments(assignments),
        calibrate=calibrate,
        memory=memory,
        data=data,
        csv=table_path,
        plot=plot,
        report=report,
        keep=keep,
        engine=Engine(where, workers, threads),
        audience=terminal.audience(verbose),
    )
    if as_json:
        terminal.emit_json(answer)
    else:
        terminal.console.print(sweep_table(answer))
    if "failed" in answer:
        raise S4EdgeError(answer["failed"])
