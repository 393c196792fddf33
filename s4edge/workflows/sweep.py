"""A range of sizes in one run: what each costs and what it loses."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s4edge.compression.states.prepared import prepare
from s4edge.compression.states.reducing import to_state
from s4edge.compression.states.step import ReduceStates, predicted_curve
from s4edge.compression.states.unit import units_of
from s4edge.compression.trade_off import TradeOff, trade_off
from s4edge.data.dataset import load_data
from s4edge.errors import S4EdgeError
from s4edge.files import check_writable
from s4edge.model.sequence_model import SequenceModel
from s4edge.progress import part_of
from s4edge.reports.compression_page import check_report, write_report
from s4edge.reports.figures.picture_file import check_plot
from s4edge.reports.sweep import plot_sweep, sweep_answer, write_csv
from s4edge.training.evaluate import evaluate_model
from s4edge.workflows.audience import NOBODY, Audience
from s4edge.workflows.inputs import read_calibration, read_model


def parse_sizes(text: str, largest: float) -> list[int]:
    """State sizes from ``32,16,8`` or ``2:32`` (halving from 32 down to 2), descending.

    Raises:
        S4EdgeError: that cannot be read, or a size is not between 1 and ``largest``.
    """
    try:
        if ":" in text:
            low, high = (int(part) for part in text.split(":"))
            sizes = []
            while high >= max(low, 1):
                sizes.append(high)
                high //= 2
        else:
            sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1 or max(sizes) > largest:
        raise S4EdgeError(
            f"--states {text} cannot be used: give state sizes from 1 to {largest:g}, as 32,16,8 "
            "or, halving, as 2:32"
        )
    return sorted(set(sizes), reverse=True)


def sizes_of(model: SequenceModel, text: str | None) -> list[int]:
    """The sizes to reduce a model to, descending: those asked for, or halves down to the least.

    Raises:
        S4EdgeError: as `parse_sizes`, or growing modes leave no room for one of them.
    """
    largest = model.config.largest_state_size
    sizes = parse_sizes(text or f"1:{max(1, int(largest) // 2)}", largest)
    units = units_of(model)
    while text is None and len(sizes) > 1 and not all(unit.has_room(sizes[-1]) for unit in units):
        sizes.pop()
    for unit in units:
        unit.uniform_orders(sizes[-1])
    return sizes


def sweep_file(
    model: Path,
    step: ReduceStates,
    states: str | None = None,
    *,
    facts: Mapping[str, Any] | None = None,
    calibrate: str | None = None,
    data: str | None = None,
    csv: Path | None = None,
    plot: Path | None = None,
    report: Path | None = None,
    audience: Audience = NOBODY,
) -> dict[str, Any]:
    """Read a model, reduce it to one size after another and tell what each costs and loses.

    What does not depend on the size is done once. Nothing is written but what is asked for.

    Args:
        model: an upstream checkpoint or a compressed model.
        step: how to reduce; its size counts for nothing.
        states: the sizes, as `parse_sizes` takes them; halves down to the least where None.
        facts: of a checkpoint, as for `s4edge.load`.
        calibrate: sequences to calibrate on, as `s4edge.data.dataset.load_data` takes them.
        data: with labels or targets, to measure accuracy or error on.
        csv: the table to write.
        plot: the picture to write.
        report: the ``.html`` page to write, with details of the smallest size.
        audience: who is told on the way.

    Returns:
        The answer of ``s4edge sweep --json``.

    Raises:
        S4EdgeError: a file cannot be read or written, sizes cannot be used, or ``step`` lacks
            something.
    """
    written = {"csv": csv, "plot": plot, "report": report}
    paths = [path for path in written.values() if path is not None]
    for index, path in enumerate(paths):
        check_writable(path, model, calibrate, data, *paths[:index])
    if plot is not None:
        check_plot(plot)
    if report is not None:
        check_report(report)
    started = time.perf_counter()
    original = read_model(model, facts, audience)
    sizes = sizes_of(original, states)
    calibration = read_calibration(original, calibrate, audience)
    settings = step.settings(calibration)
    labelled = None if data is None else load_data(data)

    def point(reduced: SequenceModel) -> TradeOff:
        return trade_off(reduced, None if labelled is None else evaluate_model(reduced, labelled))

    points, smallest = [point(original)], original
    with audience.progress("Reducing") as progress:
        prepared = prepare(original, settings, calibration, lambda done: progress(0.2 * done))
        for index, size in enumerate(sizes):
            part = part_of(lambda done: progress(0.2 + 0.8 * done), index, len(sizes))
            smallest = to_state(prepared, size, part)
            points.append(point(smallest))
    curve = predicted_curve(prepared)
    if csv is not None:
        write_csv(csv, points)
    if plot is not None:
        plot_sweep(points, curve, plot, model.name)
    if report is not None:
        write_report(report, original, smallest, points, curve, model.name)
    return sweep_answer(points, settings, time.perf_counter() - started, written)
