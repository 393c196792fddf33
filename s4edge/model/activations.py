"""Activations by the names that configurations use."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from s4edge.model.time_last import glu

ELEMENTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "gelu": F.gelu,
    "relu": F.relu,
    "elu": F.elu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "tanh": torch.tanh,
}


def activate(name: str, x: Tensor) -> Tensor:
    """Apply an activation over the last axis (those of the "glu" family halve it)."""
    if name == "glu":
        return glu(x)
    if name.startswith("glu"):
        value, gate = x.chunk(2, dim=-1)
        return value * ELEMENTWISE[name.removeprefix("glu-")](gate)
    return ELEMENTWISE[name](x)


def output_width(name: str, width: int) -> int:
    """Channels that leave an activation of ``width`` channels."""
    return width // 2 if name.startswith("glu") else width
