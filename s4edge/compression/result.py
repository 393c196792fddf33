"""What a step of compression gives."""

from __future__ import annotations

from dataclasses import dataclass

from s4edge.arrays import Float, Int
from s4edge.model.sequence_model import SequenceModel


@dataclass(frozen=True)
class Compressed:
    """A smaller model.

    Attributes:
        model: the last entry of its history tells what was done.
        curve: totals of real states, and the relative error of the output that allocation
            predicts; None where no states were allocated.
        before: the model that the last of several steps took; None for a step alone.
    """

    model: SequenceModel
    curve: tuple[Int, Float] | None = None
    before: SequenceModel | None = None
