"""The dense layers of a model's blocks, and how others take their place."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from s4edge.compression.dense.factors import Affine, Factored
from s4edge.model.configuration import DenseLayer
from s4edge.model.dense.low_rank import LowRank, LowRankConfig
from s4edge.model.dense.plain import Plain
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.stages import numbers
from s4edge.model.time_last import linear, norm


@dataclass(frozen=True)
class Place:
    """Where a dense layer stands.

    Attributes:
        block: its index.
        layer: the block's name.
        name: within the block, of `BlockConfig.dense_names`.
        columns: features that enter.
        rows: features that leave.
        rank: None where it is one matrix.
        period: input samples for one that enters it.
    """

    block: int
    layer: str
    name: str
    columns: int
    rows: int
    rank: int | None
    period: int

    @property
    def whole_cost(self) -> int:
        """Multiply-adds per sample that enters it."""
        if self.rank is None:
            return self.columns * self.rows
        return self.cost(self.rank)

    def cost(self, rank: int) -> int:
        """Multiply-adds with another rank."""
        return rank * (self.columns + self.rows)

    @property
    def largest_rank(self) -> int:
        """That takes fewer multiply-adds than it takes as it is; 0 where none does."""
        return (self.whole_cost - 1) // (self.columns + self.rows)

    def of(self, model: SequenceModel) -> nn.Module:
        """The layer."""
        return model.blocks[self.block].get_submodule(self.name)

    def affine(self, model: SequenceModel) -> Affine:
        """The layer as one matrix."""
        layer = self.of(model)
        if isinstance(layer, LowRank):
            weight = numbers(layer.left.weight) @ numbers(layer.right.weight)
            return Affine(weight, numbers(layer.left.bias))
        assert isinstance(layer, Plain)
        return Affine(numbers(layer.weight), numbers(layer.bias))

    def put(self, model: SequenceModel, factors: Factored) -> None:
        """Let a product take the layer's place."""
        config = LowRankConfig(factors.left.shape[1])
        block = model.blocks[self.block]
        like = next(self.of(model).parameters())
        product = LowRank(config, self.columns, self.rows).to(like)
        with torch.no_grad():
            for parameter, value in (
                (product.right.weight, factors.right),
                (product.left.weight, factors.left),
                (product.left.bias, factors.bias),
            ):
                parameter.copy_(torch.from_numpy(value))
        product.requires_grad_(like.requires_grad).train(block.training)
        block.set_submodule(self.name, product)
        others = tuple(each for each in block.config.dense if each.name != self.name)
        dense = (*others, DenseLayer(self.name, config))
        block.config = dataclasses.replace(block.config, dense=dense)
        blocks = tuple(each.config for each in model.blocks)
        model.config = dataclasses.replace(model.config, blocks=blocks)


def places_of(model: SequenceModel) -> list[Place]:
    """All dense layers of all blocks that are matrices or products of two, in the model's order."""
    found = []
    for index, (block, period) in enumerate(zip(model.blocks, model.config.periods, strict=False)):
        for name in block.config.dense_names:
            layer, rank = block.get_submodule(name), None
            if isinstance(layer, LowRank):
                columns, rows, rank = (
                    layer.right.in_features, layer.left.out_features, layer.right.out_features,
                )  # fmt: skip
            elif isinstance(layer, Plain):
                columns, rows = layer.in_features, layer.out_features
            else:
                continue
            # It stands behind the block's own stride.
            samples = period * (block.config.stride if name == "widening" else 1)
            found.append(Place(index, block.config.name, name, columns, rows, rank, samples))
    return found


class Recorder(nn.Module):
    """A dense layer or a norm that keeps what enters and what leaves it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.seen: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """As the layer."""
        y = linear(self.layer, x) if isinstance(self.layer, nn.Linear) else norm(self.layer, x)
        if torch.is_grad_enabled():
            # Gradients are asked for here, whether any parameter wants them or not.
            y.requires_grad_()
        self.seen = x, y
        return y


@contextmanager
def recorded(within: nn.Module, name: str) -> Iterator[Recorder]:
    """A recorder in the place of a layer of a block or of a model, for a while."""
    recorder = Recorder(within.get_submodule(name))
    within.set_submodule(name, recorder)
    try:
        yield recorder
    finally:
        within.set_submodule(name, recorder.layer)
