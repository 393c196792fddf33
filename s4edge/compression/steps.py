"""Compression as steps: each is a configuration object, applied by its handler, in order.

A new axis of compression is a configuration, a handler, and a line in `HANDLERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from s4edge.compression.dense.step import ReduceRank, reduce_rank
from s4edge.compression.rates.step import ReduceRate, reduce_rate
from s4edge.compression.result import Compressed
from s4edge.compression.states.calibration import Calibration
from s4edge.compression.states.step import ReduceStates, reduce_states
from s4edge.compression.width.step import ReduceWidth, reduce_width
from s4edge.errors import S4EdgeError
from s4edge.model.sequence_model import SequenceModel
from s4edge.progress import Progress, part_of, silent


class Step(Protocol):
    """What is asked of a step."""

    def check(self, model: SequenceModel) -> None:
        """Raise S4EdgeError unless it suits the model, before any work is done."""
        ...


Handler = Callable[[SequenceModel, Any, Calibration | None, Progress], Compressed]
HANDLERS: dict[type[Any], Handler] = {
    ReduceRate: reduce_rate,
    ReduceWidth: reduce_width,
    ReduceRank: reduce_rank,
    ReduceStates: reduce_states,
}


def check_steps(model: SequenceModel, steps: Sequence[Step]) -> None:
    """Raise S4EdgeError where a step is of no known kind or does not suit the model."""
    if not steps:
        raise S4EdgeError("there is no step of compression")
    for step in steps:
        if type(step) not in HANDLERS:
            known = ", ".join(kind.__name__ for kind in HANDLERS)
            raise S4EdgeError(f"{type(step).__name__} is no step of compression; known: {known}")
        step.check(model)


def apply_steps(
    model: SequenceModel,
    steps: Sequence[Step],
    calibration: Calibration | None = None,
    progress: Progress = silent,
) -> Compressed:
    """Compress a copy of a model, step by step.

    Args:
        model: left as it is.
        steps: in order.
        calibration: sequences, without labels, for those that take them.
        progress: called with the fraction done.

    Returns:
        The result of the last step, with the curve of the last one that has one.

    Raises:
        S4EdgeError: as `check_steps`, or a step cannot be done.
    """
    check_steps(model, steps)
    curve, before = None, model
    for index, step in enumerate(steps):
        part = part_of(progress, index, len(steps))
        done = HANDLERS[type(step)](model, step, calibration, part)
        before, model, curve = model, done.model, done.curve or curve
    return Compressed(model, curve, before)
