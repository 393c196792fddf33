"""Activations by the names that configurations use."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from s4edge.model.time_last import glu

# Of Mega (Ma et al. 2022), where it approximates the squared ReLU.
LAPLACE_MEAN, LAPLACE_DEVIATION = 0.707107, 0.282095


def _laplace(x: Tensor) -> Tensor:
    """The distribution function of a Gaussian."""
    scaled = (x - LAPLACE_MEAN) / (LAPLACE_DEVIATION * math.sqrt(2.0))
    return 0.5 * (1 + torch.erf(scaled))


ELEMENTWISE: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "gelu": F.gelu,
    "relu": F.relu,
    "elu": F.elu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "softplus": F.softplus,
    "tanh": torch.tanh,
    "sqrelu": lambda x: F.relu(x).square(),
    "laplace": _laplace,
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
