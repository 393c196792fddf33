"""Layers over (batch, length, features) whose memory is ordered batch, features, length.

Convolutions want each feature's samples side by side; dense layers and norms can do with it. Kept
in this order a sequence is never transposed, which saves a good part of a training step. Tensors
keep their shape: only their strides tell. Every function here takes either order, and gives what
torch's own layer gives, in the order of its input.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def is_time_last(x: Tensor) -> bool:
    """Whether (batch, length, features) lies in memory with time last, without gaps."""
    return x.ndim == 3 and x.shape[2] > 1 and x.mT.is_contiguous() and not x.is_contiguous()


def linear_time_last(layer: nn.Linear, x: Tensor) -> Tensor:
    """``layer(x)`` in memory with time last, whatever the order of ``x``."""
    y = torch.bmm(layer.weight.expand(len(x), -1, -1), x.mT)
    if layer.bias is not None:
        y = y.add_(layer.bias[:, None])  # in place: the product's backward pass does not read it
    return y.mT


def linear(layer: nn.Module, x: Tensor) -> Tensor:
    """A dense layer (or whatever else stands in its place)."""
    if isinstance(layer, nn.Linear) and is_time_last(x):
        return linear_time_last(layer, x)
    y: Tensor = layer(x)
    return y


def glu(x: Tensor) -> Tensor:
    """The first half of the features times the sigmoid of the second."""
    if is_time_last(x):
        y: Tensor = _GLU.apply(x.mT)
        return y.mT
    return nn.functional.glu(x)


def norm(layer: nn.Module, x: Tensor) -> Tensor:
    """A norm over features (or another)."""
    if isinstance(layer, nn.LayerNorm) and is_time_last(x):
        y: Tensor = _LayerNorm.apply(x.mT, layer.weight, layer.bias, layer.eps)
        return y.mT
    out: Tensor = layer(x)
    return out


class _GLU(torch.autograd.Function):
    """(batch, features, length) to half the features."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        value, gate = x.chunk(2, dim=1)
        opened = torch.sigmoid(gate)
        ctx.save_for_backward(value, opened)
        return value * opened

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        value, opened = ctx.saved_tensors
        (gradient,) = gradients
        batch, width, length = gradient.shape
        out = gradient.new_empty(batch, 2 * width, length)
        of_value, of_gate = out.chunk(2, dim=1)
        torch.mul(gradient, opened, out=of_value)
        torch.addcmul(opened, opened, opened, value=-1, out=of_gate)
        of_gate.mul_(value).mul_(gradient)
        return out


class _LayerNorm(torch.autograd.Function):
    """Over the features of (batch, features, length)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
        normal = x - x.mean(1, keepdim=True)
        variance = torch.linalg.vecdot(normal, normal, dim=1).div_(x.shape[1])
        # Where the variance overflows, NaN as from torch, and not a quiet zero.
        variance = torch.where(variance.isinf(), torch.nan, variance)
        scale = variance.add_(epsilon).rsqrt_()[:, None]
        normal.mul_(scale)
        ctx.save_for_backward(normal, scale, weight)
        return torch.addcmul(bias[:, None], normal, weight[:, None])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        normal, scale, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        of_weight = torch.linalg.vecdot(gradient, normal).sum(0)
        of_bias = gradient.sum((0, 2))
        g = gradient * weight[:, None]
        along = torch.linalg.vecdot(g, normal, dim=1)[:, None] / g.shape[1]
        of_x = g.sub_(g.mean(1, keepdim=True)).addcmul_(normal, along, value=-1).mul_(scale)
        return of_x, of_weight, of_bias, None
