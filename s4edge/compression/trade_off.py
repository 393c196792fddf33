"""One point of the curve of states against accuracy and error."""

from __future__ import annotations

from dataclasses import dataclass

from s4edge.data.metrics import Score
from s4edge.model.history import Compression
from s4edge.model.sequence_model import SequenceModel


@dataclass(frozen=True)
class TradeOff:
    """What a model costs and what was measured of it.

    Attributes:
        real_states: of all systems.
        state: the state size, the average over layers.
        parameters: numbers that the model holds.
        output_error: relative, measured on calibration data; None where there was none.
        predicted: of ``output_error``.
        metric: "accuracy" (a fraction) or "mse" where labels were given, else None.
        value: of it.
    """

    real_states: int
    state: float
    parameters: int
    output_error: float | None
    predicted: float | None
    metric: str | None
    value: float | None


def trade_off(model: SequenceModel, score: Score | None = None) -> TradeOff:
    """The point of a model, from its history and a score."""
    history = model.provenance.history
    # Of what was trained since, nothing is known.
    last = history[-1] if history else None
    error = last.output_error if isinstance(last, Compression) else None
    return TradeOff(
        real_states=model.config.real_states,
        state=round(model.config.average_state_size, 2),
        parameters=model.parameter_count(),
        output_error=None if error is None else error.measured,
        predicted=None if error is None else error.predicted,
        metric=None if score is None else score.metric,
        value=None if score is None else score.value,
    )
