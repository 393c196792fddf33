"""A dense layer as the product of two matrices, one behind the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from s4edge.errors import S4EdgeError
from s4edge.model.kinds import Kind
from s4edge.model.stages import Stages, numbers
from s4edge.model.time_last import linear


@dataclass(frozen=True)
class LowRankConfig:
    """How narrow it is in the middle.

    Attributes:
        rank: features between the two matrices.
    """

    TAG: ClassVar[str] = "low-rank"

    rank: int

    def check(self, where: str, columns: int, rows: int) -> None:
        """See `s4edge.model.dense.base.DenseConfig`."""
        if not 1 <= self.rank <= min(columns, rows):
            raise S4EdgeError(
                f"{where}: a dense layer of {columns} -> {rows} features cannot have the rank "
                f"{self.rank}; the file is damaged"
            )


class LowRank(nn.Module):
    """``left (right x) + bias``.

    Args:
        config: how narrow it is.
        columns: features that enter.
        rows: features that leave.
    """

    def __init__(self, config: LowRankConfig, columns: int, rows: int) -> None:
        super().__init__()
        self.right = nn.Linear(columns, config.rank, bias=False)
        self.left = nn.Linear(config.rank, rows)

    def forward(self, x: Tensor) -> Tensor:
        """(..., columns) to (..., rows), in memory in the order of ``x``."""
        return linear(self.left, linear(self.right, x))

    def lower(self, stages: Stages, name: str, x: str) -> str:
        """Two stages."""
        inner = stages.dense(f"{name}.right", x, numbers(self.right.weight))
        return stages.dense(name, inner, numbers(self.left.weight), numbers(self.left.bias))


KIND = Kind(LowRankConfig, LowRank)
