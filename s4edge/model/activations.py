"""Activations by the names that configurations use."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

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
    """Apply an activation over the last axis ("glu" halves it)."""
    if name == "glu":
        return F.glu(x, dim=-1)
    return ELEMENTWISE[name](x)
