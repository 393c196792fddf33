"""A dense layer as one matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from s4edge.model.kinds import Kind
from s4edge.model.stages import Stages, numbers


@dataclass(frozen=True)
class PlainConfig:
    """Nothing but the sizes that the block gives it."""

    TAG: ClassVar[str] = "plain"

    def check(self, where: str, columns: int, rows: int) -> None:
        """All is well."""


class Plain(nn.Linear):
    """See the module."""

    def lower(self, stages: Stages, name: str, x: str) -> str:
        """One stage."""
        return stages.dense(name, x, numbers(self.weight), numbers(self.bias))


KIND = Kind(PlainConfig, lambda config, columns, rows: Plain(columns, rows))
