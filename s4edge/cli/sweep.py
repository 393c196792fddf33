"""``s4edge sweep``: the trade-off between states and accuracy or error."""

from __future__ import annotations

import time
from pathlib import Path

import click

from s4edge.cli import output
from s4edge.cli.models import read_model, set_option
from s4edge.cli.reduction import read_calibration, reduction_options


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
@set_option
@output.json_option
@output.verbose_option
def sweep(
    model: Path,
    states: str | None,
    method: str,
    calibrate: str | None,
    allocate: str,
    refine: bool | None,
    horizon: int | None,
    data: str | None,
    table_path: Path | None,
    plot: Path | None,
    report: Path | None,
    assignments: tuple[str, ...],
    as_json: bool,
    verbose: bool,
) -> None:
    """Reduce MODEL to a range of state sizes in one run and show what each costs and loses.

    What does not depend on the size (calibration, sensitivities, the channels' errors at every
    order) is done once. Nothing is written but what is asked for.
    """
    from s4edge.compression.states.reducer import Reducer
    from s4edge.compression.trade_off import trade_off
    from s4edge.data.dataset import load_data
    from s4edge.files import check_writable
    from s4edge.reports.compression_page import check_report, write_report
    from s4edge.reports.spectrum_plot import check_plot
    from s4edge.reports.sweep import plot_sweep, sweep_answer, sweep_table
    from s4edge.training.evaluate import evaluate_model
    from s4edge.workflows.compress import make_settings
    from s4edge.workflows.sweep import predicted_curve, sizes_of, write_csv
    from s4edge.workflows.sweep import sweep as run

    for index, path in enumerate((table_path, plot, report)):
        if path is not None:
            others = (table_path, plot, report)[:index]
            check_writable(path, model, calibrate, data, *others)
    if plot is not None:
        if calibrate is None and data is None:
            raise click.UsageError("--plot has nothing to draw: add --calibrate or --data")
        check_plot(plot)
    if report is not None:
        check_report(report)
    started = time.perf_counter()
    original = read_model(model, assignments)
    sizes = sizes_of(original, states)
    calibration = read_calibration(original, calibrate)
    settings = make_settings(method, calibration, allocate, refine, horizon)
    labelled = None if data is None else load_data(data)
    score = None if labelled is None else evaluate_model(original, labelled)
    with output.progress("Reducing") as progress:
        reducer = Reducer(original, settings, calibration, lambda done: progress(0.2 * done))
        points, smallest = [trade_off(original, score)], original
        ahead = lambda done: progress(0.2 + 0.8 * done)  # noqa: E731
        for point, small in run(reducer, sizes, labelled, ahead):
            points.append(point)
            smallest = small
    curve = predicted_curve(reducer)
    if table_path is not None:
        write_csv(table_path, points)
    if plot is not None:
        plot_sweep(points, curve, plot, model.name)
    if report is not None:
        write_report(report, original, smallest, points, curve, model.name)
    written = {"csv": table_path, "plot": plot, "report": report}
    answer = sweep_answer(points, settings, time.perf_counter() - started, written)
    if as_json:
        output.emit_json(answer)
        return
    output.console.print(sweep_table(answer))
