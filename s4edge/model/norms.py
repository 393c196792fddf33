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


class OverTime(nn.Module):
    """Instance or group norm: statistics over the whole sequence, of each feature or of all.

    Args:
        features: of them.
        each: a mean and variance per feature (instance norm) rather than of all together (group).
        epsilon: added to the variance.
    """

    def __init__(self, features: int, each: bool, epsilon: float) -> None:
        super().__init__()
        self.axes = (1,) if each else (1, 2)
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
    if kind in ("instance", "group"):
        return OverTime(features, kind == "instance", epsilon)
    return nn.Identity()
