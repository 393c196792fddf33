"""The shortest way to make a model smaller: a step or two, said by their arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from s4edge.compression.rates.step import ReduceRate
from s4edge.compression.states.calibration import Calibration
from s4edge.compression.states.step import ReduceStates
from s4edge.compression.steps import Step, apply_steps
from s4edge.errors import S4EdgeError
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
    rate: Sequence[int] | Literal["auto"] | None = None,
    macs: int | None = None,
) -> SequenceModel:
    """A copy of a model whose channels keep ``state`` states each, or so many on average.

    See `s4edge.compression.states.step` for what the arguments mean, `ReduceStates`, and for what
    is done and raised, `reduce_states`. With a ``rate`` layers run once for several samples before,
    or, without a state size or tolerance, alone: see `s4edge.compression.rates.step.ReduceRate` for
    strides and ``macs``; "auto" chooses.
    """
    steps: list[Step] = []
    if macs is not None and rate is None:
        raise S4EdgeError('multiply-adds are spent on rates: give rate="auto", too')
    if rate is not None:
        steps.append(ReduceRate(None if rate == "auto" else tuple(map(int, rate)), macs))
    if state is not None or tolerance is not None or not steps:
        steps.append(ReduceStates(state, tolerance, method, allocate, refine, horizon))
    return apply_steps(model, steps, calibration, progress).model
