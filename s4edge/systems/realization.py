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

from s4edge.arrays import Complex, Float
from s4edge.systems.balancing import NEGLIGIBLE
from s4edge.systems.generators import Generators, same_shape
from s4edge.systems.lapack import jacobi_svd
from s4edge.systems.modes import Modes, expm1

# A faster pole is moved here: of v / a, as much as 1 / a is lost to cancellation, also in the
# float32 in which models are stored; of a pole at 0 nothing would be left.
FASTEST = 1e-4


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
