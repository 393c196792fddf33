"""What is asked of a dense layer, whatever its kind: of its configuration, and of its module."""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from s4edge.model.stages import Stages


class DenseConfig(Protocol):
    """What a dense layer is, apart from its numbers: a frozen dataclass.

    Attributes:
        TAG: of the kind, as files have it.
    """

    TAG: ClassVar[str]

    def check(self, where: str, columns: int, rows: int) -> None:
        """Raise S4EdgeError unless numbers from a file make sense.

        Args:
            where: whose layer it is, for messages.
            columns: features that enter.
            rows: features that leave.
        """
        ...


@runtime_checkable
class Dense(Protocol):
    """A torch module that is linear, and adds a bias."""

    def __call__(self, x: Tensor) -> Tensor:
        """(..., columns) to (..., rows)."""
        ...

    def lower(self, stages: Stages, name: str, x: str) -> str:
        """Say what it computes of a value; names of stages begin with ``name``."""
        ...
