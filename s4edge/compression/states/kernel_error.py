"""What a channel's output loses on given signals, as a quadratic form of its kernel.

A channel's output is linear in its kernel, and so is, to first order, the model's output. Summed
over sequences the squared error of either is ``energy - 2 target.K + K.gram.K``, with the kernel
``K`` cut at the length of the sequences. The matrix of lags x lags is never formed. For the
channel's own output, with silence behind a sequence's end, it is the Toeplitz matrix of the input's
autocorrelation, which the Fourier transform makes diagonal: a sum over frequencies. For projections
of the model's output it is a product of as many rows as there are sequences.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from torch import Tensor

from s4edge.arrays import Float, Int

# Of the rows, float32 or float64, and of functions that are multiplied by them.
Rows = NDArray[Any]
# Sequences whose squares are summed in single precision, before sums go on in double.
_AT_ONCE = 8


@dataclass(frozen=True)
class KernelError:
    """``K.T K - 2 linear.K + constant + |aim - rows K|^2``, and a sum of squares at later lags.

    Attributes:
        power: (frequencies,) the Toeplitz matrix ``T``: its form is the mean of
            ``power |K|^2`` over all frequencies of a transform of twice the lags.
        linear: (lags,) half the linear form, to be subtracted.
        constant: the error of the kernel 0, but for that of rows and of later lags.
        rows: (count, lags).
        rows_aim: (count,) what their products with a kernel should be.
        later: (points,) lags behind the first ones where the kernel counts by itself.
        aim: (points,) what it should be there.
        share: (points,) by how much the square of the difference counts.
    """

    power: Float
    linear: Float
    constant: float
    rows: Rows
    rows_aim: Float
    later: Int = field(default_factory=lambda: np.zeros(0, np.int64))
    aim: Float = field(default_factory=lambda: np.zeros(0))
    share: Float = field(default_factory=lambda: np.zeros(0))

    @property
    def lags(self) -> int:
        """Samples of a kernel that count, but for later ones."""
        return len(self.linear)

    @property
    def lag(self) -> Int:
        """(lags + points,) where a kernel is looked at."""
        return np.concatenate([np.arange(self.lags), self.later])

    @property
    def zero(self) -> float:
        """The error of the kernel 0."""
        late = float(self.share @ self.aim**2)
        return self.constant + float(self.rows_aim @ self.rows_aim) + late

    def normal(self, functions: Float) -> tuple[Float, Float]:
        """The quadratic form of functions, and half the linear one.

        Args:
            functions: (count, lags + points) at `lag`.

        Returns:
            (count, count), (count,).
        """
        first, last = functions[:, : self.lags], functions[:, self.lags :]
        spectra = scipy.fft.rfft(first, 2 * self.lags)
        weighted = spectra * (self.power * _of_each(2 * self.lags))
        gram = weighted.view(np.float64) @ spectra.view(np.float64).T
        product = first @ self.linear
        if len(self.rows):
            made = (first.astype(self.rows.dtype, copy=False) @ self.rows.T).astype(np.float64)
            gram += made @ made.T
            product += made @ self.rows_aim
        if len(self.later):
            weighted = last * self.share
            gram += weighted @ last.T
            product += weighted @ self.aim
        return gram, product

    def of(self, kernel: Float) -> float:
        """The squared error of a kernel at `lag`."""
        gram, product = self.normal(kernel[None])
        return float(self.zero - 2 * product[0] + gram[0, 0])

    @property
    def gram(self) -> Float:
        """(lags + points, lags + points) the quadratic form written out: for few lags."""
        return self.normal(np.eye(len(self.lag)))[0]

    @property
    def target(self) -> Float:
        """(lags + points,) half the linear form written out."""
        return self.normal(np.eye(len(self.lag)))[1]

    def scaled(self, factor: float) -> KernelError:
        """``factor`` times the error."""
        root = self.rows.dtype.type(np.sqrt(factor))
        return KernelError(
            factor * self.power, factor * self.linear, factor * self.constant,
            root * self.rows, np.sqrt(factor) * self.rows_aim,
            self.later, self.aim, factor * self.share,
        )  # fmt: skip

    def plus(self, other: KernelError) -> KernelError:
        """With another error at the same first lags; later ones are this one's."""
        rows = np.concatenate([self.rows, other.rows]) if len(self.rows) else other.rows
        return KernelError(
            self.power + other.power, self.linear + other.linear, self.constant + other.constant,
            rows, np.concatenate([self.rows_aim, other.rows_aim]),
            self.later, self.aim, self.share,
        )  # fmt: skip


def _of_each(n: int) -> Float:
    """(n // 2 + 1,) by which the squares of a half spectrum are summed to the mean over all."""
    share = np.full(n // 2 + 1, 2 / n)
    share[0] = share[-1] = 1 / n
    return share


def transform(u: Tensor) -> Tensor:
    """(..., length + 1) spectrum of sequences (..., length) with as much silence behind them.

    In double precision: what single leaves of it moves the poles that a descent ends at.
    """
    return torch.fft.rfft(u.double(), n=2 * u.shape[-1])


def convolve(kernel: Float, u: Tensor) -> Tensor:
    """(sequences, length): ``sum_k kernel[k] u_{t-k}``, ``u`` zero before its start."""
    n, length = 2 * u.shape[1], u.shape[1]
    spectrum = torch.fft.rfft(torch.from_numpy(kernel[:length]).to(u.dtype), n=n)
    return torch.fft.irfft(transform(u) * spectrum, n=n)[:, :length]


def output_error(u: Tensor, y: Tensor, lags: int) -> KernelError:
    """Of the channel's output, summed over sequences and samples.

    Args:
        u: (sequences, length) the channel's input; silence follows, for as long again.
        y: (sequences, length) the output that it should have; zero behind the end.
        lags: samples of the kernel that count, at most the length.
    """
    return error_of_spectra(transform(u), transform(y), lags)


def error_of_spectra(u: Tensor, y: Tensor, lags: int) -> KernelError:
    """`output_error` of what `transform` made of the signals; ``y`` may go on behind the end."""
    return _error_of_sums(power_of(u), _total(u.conj() * y), power_of(y), lags)


def error_of_response(u: Tensor, response: Tensor, lags: int) -> KernelError:
    """The same where the output is that of a kernel with that spectrum, (frequencies,).

    All is formed of one sum over sequences: the kernel's own error is zero to the last digit.
    """
    power = power_of(u)
    wanted = response.to(torch.complex128)
    return _error_of_sums(power, power * wanted, power * wanted.abs().square(), lags)


def _error_of_sums(power: Tensor, cross: Tensor, energy: Tensor, lags: int) -> KernelError:
    """Of sums over sequences at each frequency: ``|u|^2``, ``conj(u) y``, ``|y|^2``."""
    n = 2 * (len(power) - 1)
    first, target = torch.fft.irfft(torch.stack([power + 0j, cross]), n=n)[:, :lags].numpy()
    diagonal = power.numpy()
    if 2 * lags < n:
        # The same Toeplitz matrix, smaller.
        diagonal = scipy.fft.rfft(np.concatenate([first, [0], first[:0:-1]])).real
    total = float(energy.numpy() @ _of_each(n))
    return KernelError(diagonal, target, total, np.zeros((0, lags), np.float32), np.zeros(0))


def power_of(u: Tensor) -> Tensor:
    """(frequencies,) float64 ``sum |u|^2`` over sequences of spectra, (sequences, frequencies)."""
    return _total_of(torch.view_as_real(u).square()).sum(1)


def _total(products: Tensor) -> Tensor:
    """(frequencies,) complex128, summed over sequences."""
    return torch.view_as_complex(_total_of(torch.view_as_real(products)))


def _total_of(values: Tensor) -> Tensor:
    """(...) float64 sum over the first axis: a few at a time before they are widened."""
    whole = len(values) // _AT_ONCE * _AT_ONCE
    few = values[:whole].unflatten(0, (-1, _AT_ONCE)).sum(1) if whole else values[:0]
    return few.double().sum(0) + values[whole:].double().sum(0)


def with_later(error: KernelError, later: Int, aim: Float, share: float) -> KernelError:
    """Let a kernel count behind the end of the sequences, too.

    Args:
        error: on the sequences.
        later: (points,) some lags behind theirs, ascending; each stands for those up to the next.
        aim: (points,) the kernel there.
        share: by how much the square of a difference counts at one lag.
    """
    before = np.concatenate([[error.lags - 1], later[:-1]])
    return replace(error, later=later, aim=aim, share=share * (later - before))


@dataclass(frozen=True)
class Projected:
    """The error of projections of the model's output, to first order: ``aim - rows K``.

    Attributes:
        rows: (sequences, lags).
        aim: (sequences,).
    """

    rows: Rows
    aim: Float

    @staticmethod
    def of(u: Tensor, y: Tensor, gradient: Tensor, lags: int) -> Projected:
        """Of ``sum_t g_t y_t`` of each sequence.

        Args:
            u: (sequences, length) the channel's input.
            y: (sequences, length) the output that it should have.
            gradient: (sequences, length) of a projection of the model's output, by ``y``.
            lags: as in `output_error`.
        """
        return Projected.of_spectra(transform(u), transform(y), transform(gradient), lags)

    @staticmethod
    def of_spectra(u: Tensor, y: Tensor, gradient: Tensor, lags: int) -> Projected:
        """The same of what `transform` made of the signals."""
        n = 2 * (u.shape[1] - 1)
        rows = torch.fft.irfft(u.conj() * gradient, n=n)[:, :lags].numpy()
        share = torch.from_numpy(_of_each(n))
        aim = (gradient.conj() * y).real.to(torch.float64) @ share
        return Projected(np.ascontiguousarray(rows), aim.numpy())

    def error(self) -> KernelError:
        """Its square, summed over sequences."""
        lags = self.rows.shape[1]
        return KernelError(np.zeros(lags + 1), np.zeros(lags), 0.0, self.rows, self.aim)

    def values(self, kernel: Float) -> Float:
        """(sequences,) of a kernel, (lags,)."""
        out: Float = (self.rows @ kernel.astype(self.rows.dtype)).astype(np.float64)
        return out
