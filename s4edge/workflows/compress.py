"""Reduction of a whole model, with what was lost."""

from __future__ import annotations

import numpy as np

from s4edge.compression.states.calibration import Calibration
from s4edge.compression.states.methods.registry import find_method
from s4edge.compression.states.reducer import Reducer, Settings
from s4edge.errors import S4EdgeError
from s4edge.model.sequence_model import SequenceModel
from s4edge.progress import Progress, part_of, silent

# A tolerance is met on the calibration data by so many corrections of the prediction, or by more,
# at least halving, where none of them did; at last all states are kept.
_CORRECTIONS, _MOST_CORRECTIONS = 4, 12


def compress_model(
    model: SequenceModel,
    state: int | None = None,
    method: str = "balanced",
    calibration: Calibration | None = None,
    allocate: str = "uniform",
    tolerance: float | None = None,
    refine: bool | None = None,
    horizon: int | None = None,
    progress: Progress = silent,
) -> SequenceModel:
    """A copy of a model whose channels keep ``state`` states each, or so many on average.

    Channels that lose nothing are kept to the bit. The copy's ``provenance.history`` tells what was
    done and, for every channel, the measured errors and their bounds.

    Args:
        model: left as it is.
        state: the new state size, in the checkpoint's own count of ``d_state``.
        method: a key of `s4edge.compression.states.methods.registry.METHODS`.
        calibration: sequences, without labels.
        allocate: "uniform": every channel keeps ``state``; "sensitivity": ``state`` is the average,
            spent over all channels of all layers where the model's output needs it.
        tolerance: instead of ``state``: the relative error of the model's output on the
            calibration data, ``|y - y'| / |y|``, to stay under with as few states as possible.
        refine: whether to move poles, weights and ``D`` so that each layer's output on the
            calibration data comes close; None: wherever there is calibration and the method is
            meant as a start.
        horizon: samples for which kernels are used, where the model does not say it.
        progress: called with the fraction done.

    Raises:
        S4EdgeError: an argument is out of range or lacks another, or modes that grow leave no room.
    """
    check_arguments(model, state, tolerance)
    settings = make_settings(method, calibration, allocate, refine, horizon, tolerance is not None)
    reducer = Reducer(model, settings, calibration, part_of(progress, 0, 2))
    return reduce_prepared(reducer, state, tolerance, part_of(progress, 1, 2))


def reduce_prepared(
    reducer: Reducer,
    state: int | None,
    tolerance: float | None,
    progress: Progress = silent,
) -> SequenceModel:
    """To a state size or to a tolerance, of which one is given; as `compress_model`."""
    if state is not None:
        return reducer.to_state(int(state), progress)
    assert tolerance is not None
    return _to_tolerance(reducer, tolerance, progress)


def check_arguments(model: SequenceModel, state: int | None, tolerance: float | None) -> None:
    """Raise S4EdgeError unless one of both is given and makes sense."""
    if (state is None) == (tolerance is None):
        raise S4EdgeError("give either a state size or a tolerance")
    if tolerance is not None:
        if not 0 < tolerance < 1:
            raise S4EdgeError(
                f"the tolerance is a relative error between 0 and 1, got {tolerance:g}"
            )
        return
    check_state_size(state)
    largest = model.config.largest_state_size
    if state is not None and state > largest:
        raise S4EdgeError(
            f"the state size {state} is larger than the model's {largest:g}: "
            "reduction takes states away; choose a smaller one"
        )


def check_state_size(state: int | None) -> None:
    """Raise S4EdgeError unless it is a whole number from 1 up."""
    if isinstance(state, bool) or not isinstance(state, int | np.integer) or state < 1:
        raise S4EdgeError(f"the state size must be a whole number from 1 up, got {state}")


def make_settings(
    method: str,
    calibration: Calibration | None,
    allocate: str,
    refine: bool | None,
    horizon: int | None = None,
    to_tolerance: bool = False,
) -> Settings:
    """Settings that fit together. Raises S4EdgeError where they do not."""
    refinable = find_method(method).refinable
    if allocate not in ("uniform", "sensitivity"):
        raise S4EdgeError(f"allocation {allocate!r} is unknown; known: uniform, sensitivity")
    allocated = allocate == "sensitivity" or to_tolerance
    for wanted, what in (
        (allocate == "sensitivity", "allocation by sensitivity"),
        (to_tolerance, "a tolerance"),
        (bool(refine), "refinement"),
    ):
        if wanted and calibration is None:
            raise S4EdgeError(f"{what} needs calibration data: add --calibrate DATA")
    if refine and not refinable:
        raise S4EdgeError(f"{method} cannot be refined: it would be another method then")
    if refine is None:
        refine = calibration is not None and refinable
    return Settings(method, allocated, refine, horizon)


def _to_tolerance(reducer: Reducer, tolerance: float, progress: Progress) -> SequenceModel:
    """The smallest total whose predicted error is under the tolerance, and the measured one too.

    The prediction is corrected by what it was off at the last total that was tried.
    """
    best: SequenceModel | None = None
    aim = tolerance
    for attempt in range(_MOST_CORRECTIONS):
        last = attempt + 1 == _MOST_CORRECTIONS
        total = reducer.largest_total if last else reducer.smallest_total(aim)
        part = part_of(progress, min(attempt, _CORRECTIONS - 1), _CORRECTIONS)
        small = reducer.to_total(total, part, tolerance)
        found = small.provenance.history[-1]["output_error"]["measured"]
        fewest = best is None or small.config.real_states < best.config.real_states
        if found <= tolerance and fewest:
            best = small
        # Close enough from below: a smaller total would not be worth another round.
        if 0.85 * tolerance <= found <= tolerance or total >= reducer.largest_total:
            break
        late = attempt + 1 >= _CORRECTIONS
        if late and best is not None:
            break
        aim *= float(np.clip(0.95 * tolerance / max(found, 1e-12), 0.1, 0.5 if late else 10))
    progress(1)
    return small if best is None else best
