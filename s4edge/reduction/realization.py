"""Balanced real realizations: of a channel's kernel, or of the kernel without its first sample.

``K[1], K[2], ...`` belong to the proper system ``K[0] + C A (z - A)^-1 B``, whose feed-through is
free: methods that change ``D`` balance that one. Its modes are those of the kernel with the weights
``w a`` in place of ``w``; a reduced mode of weight ``v`` and pole ``a`` is written as ``w = v / a``
again, and what that puts into ``K[0]`` is taken back in ``D``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from s4edge.model.modes import Complex, Float, Modes, expm1
from s4edge.reduction.balanced import NEGLIGIBLE, same_shape
from s4edge.reduction.gramians import real_factor
from s4edge.reduction.lapack import jacobi_svd

# A faster pole is moved here: of v / a, as much as 1 / a is lost to cancellation, also in the
# float32 in which models are stored; of a pole at 0 nothing would be left.
FASTEST = 1e-4


@dataclass(frozen=True)
class Generators:
    """Channels of one shape as the generators of real systems ``(A, B, B S)``.

    Attributes:
        pair_log_pole: (systems, p) one pole of each conjugate pair.
        pair_input: (systems, p) its complex input weight, the square root of half its weight.
        real_log_pole: (systems, q).
        real_input: (systems, q).
        signs: (systems, n) the diagonal of ``S``, n = 2 p + q, in `real_factor`'s coordinates.
    """

    pair_log_pole: Complex
    pair_input: Complex
    real_log_pole: Complex
    real_input: Float
    signs: Float

    @staticmethod
    def of(group: Modes) -> Generators:
        """Of channels that have equally many pairs and equally many real poles."""
        channels, real = group.channels, group.is_real
        pairs = group.weight[~real].reshape(channels, -1)
        reals = group.weight[real].real.reshape(channels, -1)
        even = np.ones_like(pairs, dtype=np.float64)
        return Generators(
            group.log_pole[~real].reshape(channels, -1),
            np.sqrt(pairs / 2),
            group.log_pole[real].reshape(channels, -1),
            np.sqrt(np.abs(reals)),
            np.concatenate([even, -even, np.where(reals < 0, -1.0, 1.0)], axis=1),
        )

    def delta(self) -> Float:
        """(systems, n, n) ``A - I``."""
        systems, n = self.signs.shape
        pairs = self.pair_log_pole.shape[1]
        re, im, last = np.arange(pairs), np.arange(pairs, 2 * pairs), np.arange(2 * pairs, n)
        pull = expm1(self.pair_log_pole)
        delta = np.zeros((systems, n, n))
        delta[:, re, re] = delta[:, im, im] = pull.real
        delta[:, im, re] = pull.imag
        delta[:, re, im] = -pull.imag
        delta[:, last, last] = expm1(self.real_log_pole).real
        return delta

    def input(self) -> Float:
        """(systems, n) ``B``."""
        root = np.sqrt(2) * self.pair_input
        return np.concatenate([root.real, root.imag, self.real_input], axis=1)

    def factor(self) -> Float:
        """(systems, n, n) ``R`` with ``R^T R`` the controllability Gramian."""
        return real_factor(self.pair_log_pole, self.pair_input, self.real_log_pole, self.real_input)


@dataclass(frozen=True)
class Balanced:
    """A balanced system without its negligible states.

    Attributes:
        sigma: (states,) all Hankel singular values, descending.
        delta: (kept, kept) ``A - I``.
        input: (kept,) ``B``.
        output: (kept,) ``C``.
    """

    sigma: Float
    delta: Float
    input: Float
    output: Float


def balanced_systems(modes: Modes) -> Iterator[tuple[int, Balanced]]:
    """Every channel, by its index, balanced."""
    for channels in same_shape(modes):
        generators = Generators.of(modes.of_channels(channels))
        delta, input, factor = generators.delta(), generators.input(), generators.factor()
        for index, channel in enumerate(channels):
            R = factor[index]
            system = balance(delta[index], input[index], generators.signs[index], R, R, NEGLIGIBLE)
            yield int(channel), system


def balance(
    delta: Float, input: Float, signs: Float, reached: Float, observed: Float, negligible: float
) -> Balanced:
    """Balance ``(I + delta, input, input signs)``.

    Args:
        delta: (n, n).
        input: (n,).
        signs: (n,).
        reached: (n, n) ``R`` with ``R^T R`` the controllability Gramian.
        observed: (n, n) ``R`` with ``(R S)^T R S`` the observability Gramian.
        negligible: states below that share of the largest singular value are left out.
    """
    U, sigma, V = (part[0] for part in jacobi_svd(((observed * signs) @ reached.T)[None]))
    kept = int(np.count_nonzero(sigma > negligible * sigma[:1].max(initial=0)))
    scale = 1 / np.sqrt(sigma[:kept])
    T = reached.T @ (V[:, :kept] * scale)
    W = signs[:, None] * (observed.T @ (U[:, :kept] * scale))
    return Balanced(sigma, W.T @ delta @ T, W.T @ input, (input * signs) @ T)


def without_first(modes: Modes) -> Modes:
    """The modes of ``K[1], K[2], ...``."""
    return Modes.make(modes.log_pole, modes.weight * modes.pole, modes.channel, modes.channels)


def with_first(log_pole: Complex, weight: Complex) -> tuple[Complex, Complex, float]:
    """Undo `without_first` for one channel.

    Returns:
        ``log a`` and ``w``, and a bound on the H-infinity norm of what moving poles to `FASTEST`
        has changed (beside ``K[0]``).
    """
    slowest = np.maximum(log_pole.real, np.log(FASTEST)) + 1j * log_pole.imag
    moved = np.abs(np.exp(slowest) - np.exp(log_pole))
    change = float((np.abs(weight) * moved / (1 - FASTEST) ** 2).sum())
    return slowest, weight / np.exp(slowest), change


def gain_at_zero_frequency(modes: Modes) -> Float:
    """(channels,) the sum of each kernel."""
    gain = -(modes.weight / expm1(modes.log_pole)).real
    total: Any = np.bincount(modes.channel, weights=gain, minlength=modes.channels)
    return total
