"""A range of sizes in one run: what each costs and what it loses."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from s4edge.compression.states.calibration import Calibration
from s4edge.compression.states.prepared import Prepared, prepare
from s4edge.compression.states.reducing import to_state
from s4edge.compression.states.step import ReduceStates, predicted_curve
from s4edge.compression.states.unit import units_of
from s4edge.compression.trade_off import TradeOff, trade_off
from s4edge.data.dataset import Data, load_data
from s4edge.errors import S4EdgeError
from s4edge.files import check_writable
from s4edge.model.sequence_model import SequenceModel
from s4edge.progress import Progress
from s4edge.reports.compression_page import check_report, write_report
from s4edge.reports.figures.picture_file import check_plot
from s4edge.reports.sweep import plot_sweep, sweep_answer, write_csv
from s4edge.training.evaluate import evaluate_model
from s4edge.training.run_state import fingerprint, model_fingerprint
from s4edge.version import VERSION
from s4edge.workflows.audience import NOBODY, Audience
from s4edge.workflows.independent_runs import Ended, Engine, failures
from s4edge.workflows.inputs import read_calibration, read_model
from s4edge.workflows.kept_sizes import KeptSizes

_HERE = Engine()


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


@dataclass(frozen=True)
class _Reduction:
    """One run: to a size. Attributes: the model, ``prepared``, and data to measure it on."""

    prepared: Prepared
    labelled: Data | None

    def __call__(self, size: int, progress: Progress) -> tuple[TradeOff, SequenceModel]:
        reduced = to_state(self.prepared, size, progress)
        return _point(reduced, self.labelled), reduced


def _point(model: SequenceModel, labelled: Data | None) -> TradeOff:
    return trade_off(model, None if labelled is None else evaluate_model(model, labelled))


def sweep_file(
    model: Path,
    step: ReduceStates,
    states: str | None = None,
    *,
    facts: Mapping[str, Any] | None = None,
    calibrate: str | None = None,
    memory: int | None = None,
    data: str | None = None,
    csv: Path | None = None,
    plot: Path | None = None,
    report: Path | None = None,
    keep: Path | None = None,
    engine: Engine = _HERE,
    audience: Audience = NOBODY,
) -> dict[str, Any]:
    """Read a model, reduce it to a range of sizes and tell what each costs and loses.

    What does not depend on the size is done once. Nothing is written but what is asked for. A size
    that fails is told, and the others go on.

    Args:
        model: an upstream checkpoint or a compressed model.
        step: how to reduce; its size counts for nothing.
        states: the sizes, as `parse_sizes` takes them; halves down to the least where None.
        facts: of a checkpoint, as for `s4edge.load`.
        calibrate: sequences to calibrate on, as `s4edge.data.dataset.load_data` takes them.
        memory: bytes that calibration may take; None for half of what is free.
        data: with labels or targets, to measure accuracy or error on.
        csv: the table to write.
        plot: the picture to write.
        report: the ``.html`` page to write, with details of the smallest size.
        keep: a folder where every size is kept as it is done, and looked for before it is; it is
            made if need be.
        engine: who reduces to the sizes, each of which is a run of its own.
        audience: who is told on the way.

    Returns:
        The answer of ``s4edge sweep --json``; with ``failed``, a message, if some sizes failed.

    Raises:
        S4EdgeError: a file cannot be read or written, sizes cannot be used, ``step`` lacks
            something, the engine cannot be had, or all sizes fail.
    """
    written = {"csv": csv, "plot": plot, "report": report, "keep": keep}
    paths = [path for path in (csv, plot, report) if path is not None]
    for index, path in enumerate(paths):
        check_writable(path, model, calibrate, data, *paths[:index])
    if plot is not None:
        check_plot(plot)
    if report is not None:
        check_report(report)
    started = time.perf_counter()
    original = read_model(model, facts, audience)
    sizes = sizes_of(original, states)
    calibration = read_calibration(original, calibrate, audience, memory)
    settings = step.settings(calibration)
    labelled = None if data is None else load_data(data)
    what = {
        "version": VERSION, "model": model_fingerprint(original), **asdict(settings),
        "calibration": _fingerprint(calibration), "data": fingerprint(labelled),
    }  # fmt: skip
    kept = KeptSizes.open(keep, model.stem, what)
    left = {f"state size {size}": size for size in sizes if size not in kept.points}
    ended: list[Ended[tuple[TradeOff, SequenceModel]]] = []
    curve = None
    with _told_if_stopped(kept, len(sizes), audience), engine.open(audience.note) as hand_out:
        first = _point(original, labelled)
        with audience.progress("Reducing") as progress:
            if left or plot is not None or report is not None:
                prepared = prepare(
                    original, settings, calibration, lambda done: progress(0.2 * done)
                )
                curve = predicted_curve(prepared)
                reduction = _Reduction(prepared, labelled)
                for each in hand_out(reduction, left, lambda done: progress(0.2 + 0.8 * done)):
                    ended.append(each)
                    if each.result is not None:
                        kept.add(left[each.name], *each.result)
                    else:
                        audience.note(f"{each.name} failed: {each.problem}")
    failed = failures(ended)
    done = [size for size in sizes if size in kept.points]
    if not done:
        raise S4EdgeError(failed)
    points = [first, *(kept.points[size] for size in done)]
    if csv is not None:
        write_csv(csv, points)
    if plot is not None:
        plot_sweep(points, curve, plot, model.name)
    if report is not None:
        write_report(report, original, kept.model(min(done)), points, curve, model.name)
    answer = sweep_answer(points, settings, time.perf_counter() - started, written)
    return {**answer, **({"failed": failed} if failed else {})}


@contextmanager
def _told_if_stopped(kept: KeptSizes, sizes: int, audience: Audience) -> Iterator[None]:
    """Ctrl-C or SIGTERM: what there is of it."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        audience.note(
            "Stopped; nothing was written (--keep FOLDER keeps each size as it is done)."
            if kept.folder is None
            else f"Stopped; {kept.folder} keeps {len(kept.points)} of {sizes} sizes, and the same "
            "call goes on after them."
        )
        raise


def _fingerprint(calibration: Calibration | None) -> str | None:
    if calibration is None:
        return None
    lengths = None if calibration.lengths is None else calibration.lengths.numpy()
    return fingerprint(Data(calibration.x.numpy(), None, lengths, calibration.source))
