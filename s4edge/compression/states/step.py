"""The step of compression that takes states away: what is asked, and what is done."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from s4edge.arrays import Float, Int
from s4edge.compression.counts import is_count
from s4edge.compression.result import Compressed
from s4edge.compression.states.calibration import Calibration
from s4edge.compression.states.methods.registry import find_method
from s4edge.compression.states.prepared import Prepared, ReductionSettings, prepare
from s4edge.compression.states.reducing import to_state, to_total
from s4edge.compression.trade_off import trade_off
from s4edge.errors import S4EdgeError
from s4edge.model.sequence_model import SequenceModel
from s4edge.progress import Progress, part_of, silent

# A tolerance is met on the calibration data by so many corrections of the prediction, or by more,
# at least halving, where none of them did; at last all states are kept.
_CORRECTIONS, _MOST_CORRECTIONS = 4, 12


@dataclass(frozen=True)
class ReduceStates:
    """What is asked of a reduction of states.

    Attributes:
        state: the new state size, in the checkpoint's own count of ``d_state``.
        tolerance: instead of ``state``: the relative error of the model's output on the
            calibration data, ``|y - y'| / |y|``, to stay under with as few states as possible.
        method: a key of `s4edge.compression.states.methods.registry.METHODS`.
        allocate: "uniform": every channel keeps ``state``; "sensitivity": ``state`` is the average,
            spent over all channels of all layers where the model's output needs it.
        refine: whether to move poles, weights and ``D`` so that each layer's output on the
            calibration data comes close; None: wherever there is calibration and the method is
            meant as a start.
        horizon: samples for which kernels are used, where the model does not say it.
    """

    state: int | None = None
    tolerance: float | None = None
    method: str = "balanced"
    allocate: str = "uniform"
    refine: bool | None = None
    horizon: int | None = None

    def check(self, model: SequenceModel) -> None:
        """Raise S4EdgeError unless a state size or a tolerance is given that suits the model."""
        if (self.state is None) == (self.tolerance is None):
            raise S4EdgeError("give either a state size or a tolerance")
        if self.tolerance is not None:
            if not 0 < self.tolerance < 1:
                raise S4EdgeError(
                    f"the tolerance is a relative error between 0 and 1, got {self.tolerance:g}"
                )
            return
        check_state_size(self.state)
        largest = model.config.largest_state_size
        if self.state is not None and self.state > largest:
            raise S4EdgeError(
                f"the state size {self.state} is larger than the model's {largest:g}: "
                "reduction takes states away; choose a smaller one"
            )

    def settings(self, calibration: Calibration | None) -> ReductionSettings:
        """What of it does not depend on the size. Raises S4EdgeError where parts do not fit."""
        refinable = find_method(self.method).refinable
        if self.allocate not in ("uniform", "sensitivity"):
            raise S4EdgeError(
                f"allocation {self.allocate!r} is unknown; known: uniform, sensitivity"
            )
        by_sensitivity, to_tolerance = self.allocate == "sensitivity", self.tolerance is not None
        for wanted, what in (
            (by_sensitivity, "allocation by sensitivity"),
            (to_tolerance, "a tolerance"),
            (bool(self.refine), "refinement"),
        ):
            if wanted and calibration is None:
                raise S4EdgeError(f"{what} needs calibration data: add --calibrate DATA")
        if self.refine and not refinable:
            raise S4EdgeError(f"{self.method} cannot be refined: it would be another method then")
        refine = calibration is not None and refinable if self.refine is None else self.refine
        allocated = by_sensitivity or to_tolerance
        return ReductionSettings(self.method, allocated, refine, self.horizon)


def reduce_states(
    model: SequenceModel,
    step: ReduceStates,
    calibration: Calibration | None = None,
    progress: Progress = silent,
) -> Compressed:
    """Take states away from a copy of a model.

    Channels that lose nothing are kept to the bit. The copy's ``provenance.history`` tells what was
    done and, for every channel, the measured errors and their bounds.

    Args:
        model: left as it is.
        step: how many and how.
        calibration: sequences, without labels.
        progress: called with the fraction done.

    Raises:
        S4EdgeError: ``step`` is out of range or lacks something, or modes that grow leave no room.
    """
    step.check(model)
    prepared = prepare(model, step.settings(calibration), calibration, part_of(progress, 0, 2))
    rest = part_of(progress, 1, 2)
    if step.state is not None:
        small = to_state(prepared, int(step.state), rest)
    else:
        assert step.tolerance is not None
        small = _to_tolerance(prepared, step.tolerance, rest)
    return Compressed(small, predicted_curve(prepared))


def check_state_size(state: int | None) -> None:
    """Raise S4EdgeError unless it is a whole number from 1 up."""
    if not is_count(state):
        raise S4EdgeError(f"the state size must be a whole number from 1 up, got {state}")


def predicted_curve(prepared: Prepared) -> tuple[Int, Float] | None:
    """Totals of real states, and the relative error of the output that allocation predicts."""
    if prepared.budget is None:
        return None
    kept = int(sum(unit.kept_states.sum() for unit in prepared.units))
    walk = prepared.budget.walk
    return walk.total + kept, np.sqrt(walk.error)


def _to_tolerance(prepared: Prepared, tolerance: float, progress: Progress) -> SequenceModel:
    """The smallest total whose predicted error is under the tolerance, and the measured one too.

    The prediction is corrected by what it was off at the last total that was tried.
    """
    budget, largest = prepared.budget, prepared.largest_total
    assert budget is not None
    best: SequenceModel | None = None
    aim = tolerance
    for attempt in range(_MOST_CORRECTIONS):
        last = attempt + 1 == _MOST_CORRECTIONS
        total = largest if last else budget.smallest_total(aim)
        part = part_of(progress, min(attempt, _CORRECTIONS - 1), _CORRECTIONS)
        small = to_total(prepared, total, tolerance, part)
        found = trade_off(small).output_error
        assert found is not None
        fewest = best is None or small.config.real_states < best.config.real_states
        if found <= tolerance and fewest:
            best = small
        # Close enough from below: a smaller total would not be worth another round.
        if 0.85 * tolerance <= found <= tolerance or total >= largest:
            break
        late = attempt + 1 >= _CORRECTIONS
        if late and best is not None:
            break
        aim *= float(np.clip(0.95 * tolerance / max(found, 1e-12), 0.1, 0.5 if late else 10))
    progress(1)
    return small if best is None else best
