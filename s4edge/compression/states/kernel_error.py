"""What a channel's output loses on given signals, as a quadratic form of its kernel.

A channel's output is linear in its kernel, and so is, to first order, the model's output. Summed
over sequences and samples the squared error of either is ``energy - 2 target.K + K.gram.K``, with
the kernel ``K`` cut at the length of the sequences: nothing is taken to be stationary, the start of
a sequence and its end count as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from s4edge.arrays import Float, Int


@dataclass(frozen=True)
class KernelError:
    """``energy - 2 target.K + K.gram.K``, and optionally a sum of squares at later lags.

    Attributes:
        gram: (lags, lags) symmetric, positive semidefinite.
        target: (lags,).
        energy: of the output that is aimed at: the error of the kernel 0.
        later: (points,) lags behind those of ``gram`` where the kernel counts by itself.
        aim: (points,) what it should be there.
        share: (points,) by how much the square of the difference counts.
    """

    gram: Float
    target: Float
    energy: float
    later: Int = field(default_factory=lambda: np.zeros(0, np.int64))
    aim: Float = field(default_factory=lambda: np.zeros(0))
    share: Float = field(default_factory=lambda: np.zeros(0))

    @property
    def lag(self) -> Int:
        """(lags + points,) where a kernel is looked at."""
        return np.concatenate([np.arange(len(self.target)), self.later])

    def times(self, functions: Float) -> Float:
        """The quadratic form times functions at `lag`, (lags + points, count)."""
        lags = len(self.target)
        out: Float = np.concatenate(
            [self.gram @ functions[:lags], self.share[:, None] * functions[lags:]]
        )
        return out

    @property
    def linear(self) -> Float:
        """(lags + points,) half the linear form, to be subtracted."""
        return np.concatenate([self.target, self.share * self.aim])

    @property
    def constant(self) -> float:
        """The error of the kernel 0."""
        return self.energy + float(self.share @ self.aim**2)

    def of(self, kernel: Float) -> float:
        """The squared error of a kernel at `lag`."""
        square = kernel @ self.times(kernel[:, None])[:, 0]
        return float(self.constant - 2 * self.linear @ kernel + square)

    def scaled(self, factor: float) -> KernelError:
        """``factor`` times the error."""
        return KernelError(
            factor * self.gram, factor * self.target, factor * self.energy,
            self.later, self.aim, factor * self.share,
        )  # fmt: skip

    def plus(self, other: KernelError) -> KernelError:
        """With another error at the same first lags; later ones are this one's."""
        return KernelError(
            self.gram + other.gram, self.target + other.target, self.energy + other.energy,
            self.later, self.aim, self.share,
        )  # fmt: skip


def convolve(kernel: Float, u: Tensor) -> Tensor:
    """(sequences, length): ``sum_k kernel[k] u_{t-k}``, ``u`` zero before its start."""
    n, length = 2 * u.shape[1], u.shape[1]
    spectrum = torch.fft.rfft(torch.from_numpy(kernel[:length]).to(u.dtype), n=n)
    return torch.fft.irfft(torch.fft.rfft(u, n=n) * spectrum, n=n)[:, :length]


def output_error(u: Tensor, y: Tensor, lags: int) -> KernelError:
    """Of the channel's output, summed over sequences and samples.

    Args:
        u: (sequences, length) the channel's input, float64.
        y: (sequences, length) the output that it should have.
        lags: samples of the kernel that count, at most the length.
    """
    n, length = 2 * u.shape[1], u.shape[1]
    spectrum = torch.fft.rfft(u, n=n).conj()
    both = torch.stack(
        [(spectrum * spectrum.conj()).sum(0), (spectrum * torch.fft.rfft(y, n=n)).sum(0)]
    )
    first, target = torch.fft.irfft(both, n=n)[:, :lags].numpy()
    # R[j, k] = sum_t u_{t-j} u_{t-k}; with each lag the last sample leaves the sum:
    # R[j, k] - R[j+1, k+1] = v[j] v[k], v the sequences from their end.
    v = u.flip(1)[:, :lags]
    gram = (v.T @ v).numpy()
    if lags == length:
        # From the far corner no digits are lost.
        for j in range(lags - 2, -1, -1):
            gram[j, :-1] += gram[j + 1, 1:]
    else:
        leaving, gram = gram, np.empty_like(gram)
        gram[0] = gram[:, 0] = first
        for j in range(lags - 1):
            gram[j + 1, 1:] = gram[j, :-1] - leaving[j, :-1]
        gram = (gram + gram.T) / 2
    return KernelError(gram, target, float((y * y).sum()))


def with_later(error: KernelError, later: Int, aim: Float, share: float) -> KernelError:
    """Let a kernel count behind the end of the sequences, too.

    Args:
        error: on the sequences.
        later: (points,) some lags behind theirs, ascending; each stands for those up to the next.
        aim: (points,) the kernel there.
        share: by how much the square of a difference counts at one lag.
    """
    before = np.concatenate([[len(error.target) - 1], later[:-1]])
    return replace(error, later=later, aim=aim, share=share * (later - before))


@dataclass(frozen=True)
class Projected:
    """The error of projections of the model's output, to first order: ``aim - rows K``.

    Attributes:
        rows: (sequences, lags).
        aim: (sequences,).
    """

    rows: Float
    aim: Float

    @staticmethod
    def of(u: Tensor, y: Tensor, gradient: Tensor, lags: int) -> Projected:
        """Of ``sum_t g_t y_t`` of each sequence.

        Args:
            u: (sequences, length) the channel's input, float64.
            y: (sequences, length) the output that it should have.
            gradient: (sequences, length) of a projection of the model's output, by ``y``.
            lags: as in `output_error`.
        """
        n = 2 * u.shape[1]
        spectrum = torch.fft.rfft(gradient, n=n) * torch.fft.rfft(u, n=n).conj()
        rows = torch.fft.irfft(spectrum, n=n)[:, :lags].numpy()
        return Projected(np.ascontiguousarray(rows), (gradient * y).sum(dim=1).numpy())

    def error(self) -> KernelError:
        """Its square, summed over sequences."""
        rows, aim = self.rows, self.aim
        return KernelError(rows.T @ rows, rows.T @ aim, float(aim @ aim))

    def values(self, kernel: Float) -> Float:
        """(sequences,) of a kernel, (lags,)."""
        out: Float = self.rows @ kernel
        return out
