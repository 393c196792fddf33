"""Kernels of diagonal systems, forward and backward, without an array of modes x length.

``K[k] = Re sum_n w_n a_n**k`` with powers split, ``a**(i T + j) = (a**T)**i a**j``, ``T`` about the
square root of the length: two short tables and one real matrix product per channel. Its gradients
are sums over ``k`` of the same shape, ``sum_k g[k] a**k`` and ``sum_k k g[k] a**k``, and take the
same tables.

Channels hold different numbers of modes. Those of about equally many are computed together, so that
a model costs what it holds, and not its largest channel everywhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Channels are padded to the next of these: at most by half.
_WIDTHS = [1, *(w for power in range(1, 20) for w in (2**power, 3 * 2**power // 2))]


@dataclass(frozen=True)
class Groups:
    """Channels with about equally many modes, group by group.

    Attributes:
        modes: per group, (channels, width) positions among all modes; that past the last one
            stands for none.
        order: (H,) where each channel stands in the groups put end to end.
    """

    modes: list[Tensor]
    order: Tensor

    @staticmethod
    def of(channel: Tensor, channels: int) -> Groups:
        """Of modes whose channels are ``channel``, (modes,), in any order."""
        owner = channel.cpu().numpy()
        by_channel = np.argsort(owner, kind="stable")
        counts = np.bincount(owner, minlength=channels)
        starts = np.cumsum(counts) - counts
        widths = np.searchsorted(_WIDTHS, counts)
        found, members = [], []
        for group in np.unique(widths[counts > 0]):
            (these,) = np.nonzero((widths == group) & (counts > 0))
            slot = np.arange(counts[these].max())
            held = slot < counts[these, None]
            position = np.minimum(starts[these, None] + slot, len(owner) - 1)
            found.append(np.where(held, by_channel[position], len(owner)))
            members.append(these)
        members.append(np.flatnonzero(counts == 0))
        order = np.argsort(np.concatenate(members), kind="stable")
        place = channel.device
        return Groups(
            [torch.from_numpy(each).to(place) for each in found], torch.from_numpy(order).to(place)
        )

    def kernel(self, log_pole: Tensor, weight: Tensor, length: int) -> Tensor:
        """(H, length) float64.

        Args:
            log_pole: (modes,) complex128 ``log a``.
            weight: (modes,) complex128 ``w``.
            length: in samples.
        """
        log_pole = torch.cat([log_pole, log_pole.new_full((1,), -1.0)])
        weight = torch.cat([weight, weight.new_zeros(1)])
        parts = [mode_sum(log_pole[these], weight[these], length) for these in self.modes]
        without = len(self.order) - sum(map(len, parts))
        parts.append(torch.zeros(without, length, dtype=torch.float64, device=log_pole.device))
        return torch.cat(parts)[self.order]


def mode_sum(log_pole: Tensor, weight: Tensor, length: int) -> Tensor:
    """``Re sum_n w_n a_n**k`` for ``k`` below ``length``; differentiable.

    Args:
        log_pole: (channels, modes) complex128.
        weight: (channels, modes) complex128.
        length: in samples.

    Returns:
        (channels, length) float64.
    """
    kernel: Tensor = _ModeSum.apply(log_pole, weight, length)
    return kernel


class _ModeSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log_pole: Tensor, weight: Tensor, length: int) -> Tensor:
        fine = _powers(log_pole, max(1, math.isqrt(length)))
        coarse = _powers(log_pole * fine.shape[-1], -(-length // fine.shape[-1]))
        ctx.save_for_backward(weight, fine, coarse)
        ctx.length = length
        product = _parts(coarse * weight[..., None], -1).mT @ _parts(fine, 1)
        return product.flatten(1)[:, :length]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, fine, coarse = ctx.saved_tensors
        step, rows = fine.shape[-1], coarse.shape[-1]
        (gradient,) = gradients
        padded = torch.nn.functional.pad(gradient, (0, rows * step - ctx.length))
        padded = padded.view(-1, rows, step)
        j = torch.arange(step, dtype=torch.float64, device=fine.device)
        i = step * torch.arange(rows, dtype=torch.float64, device=fine.device)
        table = _parts(fine, 1).mT
        # sum_j g[i T + j] a**j, and the same with j: (channels, modes, rows).
        plain, ramp = (_complex(each @ table).mT for each in (padded, padded * j))
        of_weight = (coarse * plain).sum(-1)
        of_log_pole = weight * (coarse * (i * plain + ramp)).sum(-1)
        # torch's gradient of the real part of an analytic function is its conjugate derivative.
        return of_log_pole.conj(), of_weight.conj(), None


def _powers(log_pole: Tensor, count: int) -> Tensor:
    """(..., count) ``a**j``: few exponentials, and products of them."""
    inner = max(1, math.isqrt(count))
    outer = -(-count // inner)
    steps = torch.arange(max(inner, outer), dtype=torch.float64, device=log_pole.device)
    low = torch.exp(log_pole[..., None] * steps[:inner])
    high = torch.exp(log_pole[..., None] * (inner * steps[:outer]))
    return (high[..., None] * low[..., None, :]).flatten(-2)[..., :count]


def _parts(table: Tensor, sign: int) -> Tensor:
    """(channels, modes, n) complex to (channels, 2 modes, n): real parts, then imaginary ones.

    ``sign`` 1 and -1 make two of them whose product is the real part of the complex product.
    """
    return torch.cat([table.real, table.imag if sign > 0 else -table.imag], dim=1)


def _complex(parts: Tensor) -> Tensor:
    real, imaginary = parts.chunk(2, dim=-1)
    return torch.complex(real, imaginary)
