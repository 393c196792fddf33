"""What a model computes per input sample, and where: multiply-adds of dense layers and of states.

A conjugate pair costs six, a real pole two, a matrix as many as it has numbers, a kernel that is no
recurrence its taps. What runs once for several samples costs each of them its share.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from s4edge.arrays import Float
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.stages import Stages
from s4edge.model.systems.base import Systems
from s4edge.systems.modes import Modes

PER_PAIR, PER_REAL_POLE = 6, 2


@dataclass(frozen=True)
class Cost:
    """Of a part of a model, per input sample.

    Attributes:
        name: "encoder", a layer's name, or "decoder".
        period: input samples for one that enters it.
        dense: multiply-adds of matrices.
        states: of systems.
    """

    name: str
    period: int
    dense: float
    states: float

    @property
    def multiply_adds(self) -> float:
        """All of them."""
        return self.dense + self.states


def costs_of(model: SequenceModel) -> list[Cost]:
    """Encoder, layers in order, decoder."""
    config = model.config
    first = config.input_stride if isinstance(model.encoder, nn.Linear) else 1
    found = [Cost("encoder", 1, _dense([model.encoder]) / first, 0.0)]
    for index, (block, period) in enumerate(zip(model.blocks, config.periods, strict=False)):
        width = config.block_widths(index)[0]
        states = sum(
            _of_systems(each, width, config.streams)
            for each in (block.systems, block.backward_systems)
            if each is not None
        )
        # Behind the block's own stride.
        widening = _dense([block.widening]) / block.config.stride
        rest = (each for each in block.children() if each is not block.widening)
        dense = _dense(each for each in rest if not isinstance(each, Systems)) + widening
        found.append(Cost(block.config.name, period, dense / period, states / period))
    found.append(Cost("decoder", config.stride, _dense([model.decoder]) / config.stride, 0.0))
    return found


def multiply_adds(model: SequenceModel) -> int:
    """Per input sample, of the whole model, in the nearest whole number."""
    return round(sum(cost.multiply_adds for cost in costs_of(model)))


def _dense(modules: Iterable[nn.Module]) -> float:
    inner = (each for module in modules for each in module.modules())
    return float(sum(each.weight.numel() for each in inner if isinstance(each, nn.Linear)))


def _of_systems(systems: Systems, width: int, streams: bool) -> float:
    counter = _Counter(width, over_sequences=not streams)
    systems.lower(counter, "u", backward=False)
    return counter.total


class _Counter(Stages):
    """Counts what stages take."""

    def __init__(self, width: int, over_sequences: bool) -> None:
        self.over_sequences = over_sequences
        self.total = 0.0
        self._widths = {"u": width}

    def width(self, value: str) -> int:
        return self._widths[value]

    def _add(self, name: str, width: int, cost: float = 0.0) -> str:
        self._widths[name], self.total = width, self.total + cost
        return name

    def gathered(self, name: str, x: str, indices: tuple[int, ...]) -> str:
        return self._add(name, len(indices))

    def dense(self, name: str, x: str, weight: Float, bias: Float | None = None) -> str:
        return self._add(name, len(weight), weight.size)

    def weighted_sum(self, name: str, x: str, y: str, weights: tuple[float, float]) -> str:
        return self._add(name, self.width(x))

    def recurrence(self, name: str, u: str, modes: Modes, D: Float, backward: bool = False) -> str:
        reals = int(modes.is_real.sum())
        cost = PER_PAIR * (len(modes.weight) - reals) + PER_REAL_POLE * reals
        return self._add(name, modes.channels, cost)

    def convolution(
        self, name: str, u: str, kernel: Float, D: Float | None = None, backward: bool = False
    ) -> str:
        return self._add(name, len(kernel), kernel.size)
