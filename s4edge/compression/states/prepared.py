"""A model made ready to be reduced: everything that does not depend on the size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from s4edge.arrays import Float, Int
from s4edge.compression.states.allocation import Curves, Walk, walk
from s4edge.compression.states.base import ReductionMethod, Use
from s4edge.compression.states.calibration import Calibration, Passage, one_thread_each
from s4edge.compression.states.candidates import Candidates
from s4edge.compression.states.curves import error_curves
from s4edge.compression.states.methods.registry import METHODS
from s4edge.compression.states.observed import Observed, observe
from s4edge.compression.states.unit import Unit, units_of
from s4edge.errors import S4EdgeError
from s4edge.model.sequence_model import SequenceModel
from s4edge.progress import Progress, silent


@dataclass(frozen=True)
class ReductionSettings:
    """How to reduce.

    Attributes:
        method: a key of `METHODS`.
        allocated: whether a total is spent over all channels.
        refined: whether results are moved downhill on calibration data.
        horizon: samples for which kernels are used, or None.
    """

    method: str
    allocated: bool = False
    refined: bool = False
    horizon: int | None = None


@dataclass(frozen=True)
class Budget:
    """Where states are best spent.

    Attributes:
        walk: over all channels of all units.
        states: (channels,) real states of the stable modes of each.
        units: (units - 1,) where the channels of the next unit start.
    """

    walk: Walk
    states: Int
    units: Int

    def orders(self, total: int) -> list[Int]:
        """By unit, (channels,) orders that spend at most a total of real states."""
        return np.split(np.minimum(self.walk.orders_within(total), self.states), self.units)

    def smallest_total(self, error: float) -> int:
        """The fewest real states whose predicted relative error of the output is at most that."""
        found = self.walk.smallest_total(error**2 * (1 + 1e-12))
        return int(self.states.sum()) if found is None else max(found, 1)

    def predicted(self, totals: Int) -> Float:
        """Relative error of the model's output at totals of real states, as allocated."""
        at = np.searchsorted(self.walk.total, totals, side="right") - 1
        return np.sqrt(self.walk.error[np.maximum(at, 0)])


@dataclass(frozen=True)
class Prepared:
    """A model, ready for any size.

    Attributes:
        model: as it is.
        settings: how to reduce.
        candidates: by unit.
        observed: the model on calibration data, or None without.
        budget: None where all channels get the same.
    """

    model: SequenceModel
    settings: ReductionSettings
    candidates: list[Candidates]
    observed: Observed | None = None
    budget: Budget | None = None

    @property
    def units(self) -> list[Unit]:
        """What is reduced, in the model's order."""
        return [each.unit for each in self.candidates]

    @property
    def largest_total(self) -> int:
        """Real states of all stable modes."""
        return int(sum(unit.stable.real_states.sum() for unit in self.units))


def prepare(
    model: SequenceModel,
    settings: ReductionSettings,
    calibration: Calibration | None = None,
    progress: Progress = silent,
) -> Prepared:
    """Make a model ready.

    Args:
        model: left as it is.
        settings: how to reduce.
        calibration: sequences, or None.
        progress: called with the fraction done.

    Raises:
        S4EdgeError: the model has no diagonal systems, or its output on the calibration data is
            zero, NaN or infinite.
    """
    if not units_of(model):
        raise S4EdgeError("the model has no diagonal systems: there are no states to take away")
    method, horizon = METHODS[settings.method], settings.horizon or model.config.length
    if calibration is not None:
        with one_thread_each():
            return _calibrated(model, settings, method, horizon, calibration, progress)
    progress(1)
    use = Use(horizon=horizon)
    return Prepared(model, settings, [Candidates(method, unit, use) for unit in units_of(model)])


def _calibrated(
    model: SequenceModel,
    settings: ReductionSettings,
    method: ReductionMethod,
    horizon: int | None,
    calibration: Calibration,
    progress: Progress,
) -> Prepared:
    observed = observe(model, calibration, lambda done: progress(0.4 * done))
    units = units_of(model)
    candidates: list[Candidates] = []
    curves: list[Curves] = []
    passage = Passage(observed.model, observed.sample)
    for unit in units:
        while passage.at < unit.block:
            passage.advance()
        u = passage.inputs(unit.backward)
        candidates.append(Candidates(method, unit, observed.use(unit, u, horizon)))
        if settings.allocated:
            error = observed.layer_error(unit, u, u)
            curves.append(error_curves(candidates[-1], error, settings.refined))
        progress(0.4 + 0.6 * len(candidates) / len(units))
    budget = _budget(units, curves) if settings.allocated else None
    progress(1)
    return Prepared(model, settings, candidates, observed, budget)


def _budget(units: list[Unit], curves: list[Curves]) -> Budget:
    together = Curves(
        np.concatenate([each.order for each in curves]),
        np.concatenate([each.error for each in curves]),
    )
    return Budget(
        walk(together),
        np.concatenate([unit.stable.real_states for unit in units]),
        np.cumsum([unit.stable.channels for unit in units])[:-1],
    )
