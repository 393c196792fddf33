"""A range of sizes in one run: what each costs and what it loses."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from s4edge.compression.states.base import Float, Int
from s4edge.compression.states.reducer import Reducer
from s4edge.compression.states.unit import units_of
from s4edge.compression.trade_off import TradeOff, trade_off
from s4edge.data.dataset import Data
from s4edge.errors import S4EdgeError
from s4edge.files import replacing
from s4edge.model.sequence_model import SequenceModel
from s4edge.progress import Progress, part_of, silent
from s4edge.training.evaluate import evaluate_model


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


def sweep(
    reducer: Reducer,
    sizes: list[int],
    data: Data | None,
    progress: Progress = silent,
) -> Iterator[tuple[TradeOff, SequenceModel]]:
    """Reduce to one size after another; all that does not depend on the size is done once.

    Args:
        reducer: made ready.
        sizes: state sizes.
        data: with labels or targets, to measure accuracy or error on; or None.
        progress: called with the fraction done.
    """
    for index, state in enumerate(sizes):
        small = reducer.to_state(state, part_of(progress, index, len(sizes)))
        yield trade_off(small, None if data is None else evaluate_model(small, data)), small


def predicted_curve(reducer: Reducer) -> tuple[Int, Float] | None:
    """Totals of real states, and the relative error of the output that allocation predicts."""
    if reducer.walk is None:
        return None
    kept = int(sum(unit.kept_states.sum() for unit in reducer.units))
    return reducer.walk.total + kept, np.sqrt(reducer.walk.error)


def write_csv(path: Path, points: list[TradeOff]) -> None:
    """The curve as a table, empty where nothing was measured."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(TradeOff)])
        writer.writeheader()
        writer.writerows(asdict(point) for point in points)
