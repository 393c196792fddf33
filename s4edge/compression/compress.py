"""The shortest way to make a model smaller: one step, said by its arguments."""

from __future__ import annotations

from s4edge.compression.states.calibration import Calibration
from s4edge.compression.states.step import ReduceStates
from s4edge.compression.steps import apply_steps
from s4edge.model.sequence_model import SequenceModel
from s4edge.progress import Progress, silent


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

    See `s4edge.compression.states.step` for what the arguments mean, `ReduceStates`, and for what
    is done and raised, `reduce_states`.
    """
    step = ReduceStates(state, tolerance, method, allocate, refine, horizon)
    return apply_steps(model, [step], calibration, progress).model
