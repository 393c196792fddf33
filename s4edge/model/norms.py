"""Norms by the names that configurations use; see `s4edge.model.configuration.BlockConfig`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s4edge.model.configuration import Norm


class Standardize(nn.Module):
    """Mean 0 and deviation 1 over features, then one scale and shift: ``(x - mean + shift) scale``.

    Upstream's layer norm for transposed sequences; no epsilon, and the shift comes first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(..., features)."""
        deviation, mean = torch.std_mean(x, dim=-1, unbiased=False, keepdim=True)
        return self.scale / deviation * (x - mean + self.shift)


class Affine(nn.Module):
    """A scale and a shift per feature: what a batch norm is once it is trained."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """(..., features)."""
        return x * self.weight + self.bias


# Of (batch, length, features): what statistics are taken over.
OVER_TIME: dict[Norm, tuple[int, ...]] = {"instance": (1,), "group": (1, 2), "batch": (0, 1)}


class OverTime(nn.Module):
    """Instance, group or batch norm: statistics over whole sequences.

    Args:
        kind: "instance" (of each sequence and feature), "group" (of each sequence), "batch" (of
            each feature).
        features: of them.
        epsilon: added to the variance.
    """

    def __init__(self, kind: Norm, features: int, epsilon: float) -> None:
        super().__init__()
        self.axes = OVER_TIME[kind]
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, features)."""
        variance, mean = torch.var_mean(x, dim=self.axes, unbiased=False, keepdim=True)
        return (x - mean) / torch.sqrt(variance + self.epsilon) * self.weight + self.bias


def make_norm(kind: Norm, features: int, epsilon: float) -> nn.Module:
    """The norm of a name over (..., features)."""
    if kind == "layer":
        return nn.LayerNorm(features, eps=epsilon)
    if kind == "standardize":
        return Standardize()
    if kind == "affine":
        return Affine(features)
    if kind in OVER_TIME:
        return OverTime(kind, features, epsilon)
    return nn.Identity()
