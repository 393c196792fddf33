"""The kinds of dense layers that there are."""

from __future__ import annotations

from typing import Annotated

from torch import nn

from s4edge.model.dense import low_rank, plain
from s4edge.model.dense.base import DenseConfig
from s4edge.model.kinds import Kinds

DENSE = Kinds("dense layers", plain.KIND, low_rank.KIND)
AnyDense = Annotated[DenseConfig, DENSE.tagged]


def make_dense(config: DenseConfig | None, where: str, columns: int, rows: int) -> nn.Module:
    """A dense layer of a configuration; plain where that is None.

    Args:
        config: of a kind in `DENSE`.
        where: whose layer it is, for messages.
        columns: features that enter.
        rows: features that leave.

    Raises:
        S4EdgeError: the configuration does not suit these.
    """
    config = plain.PlainConfig() if config is None else config
    config.check(where, columns, rows)
    layer: nn.Module = DENSE.make(config, columns, rows)
    return layer
