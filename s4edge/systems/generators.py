"""Channels of one shape as real systems, to be worked on as one array."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from s4edge.arrays import Complex, Float, Int
from s4edge.systems.gramians import real_factor
from s4edge.systems.modes import Modes, expm1


def same_shape(modes: Modes) -> list[Int]:
    """Channels grouped by their numbers of pairs and real poles, to be worked on as one array."""
    real = np.bincount(modes.channel[modes.is_real], minlength=modes.channels)
    pairs = np.bincount(modes.channel[~modes.is_real], minlength=modes.channels)
    shapes, group = np.unique(np.stack([pairs, real]), axis=1, return_inverse=True)
    return [np.flatnonzero(group.reshape(-1) == index) for index in range(shapes.shape[1])]


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

    def pull(self) -> Complex:
        """(systems, p + q) ``a - 1``, formed from the logarithms of the poles."""
        out: Complex = expm1(np.concatenate([self.pair_log_pole, self.real_log_pole], axis=1))
        return out

    def delta(self) -> Float:
        """(systems, n, n) ``A - I``."""
        systems, n = self.signs.shape
        pairs = self.pair_log_pole.shape[1]
        re, im, last = np.arange(pairs), np.arange(pairs, 2 * pairs), np.arange(2 * pairs, n)
        pull = self.pull()
        delta = np.zeros((systems, n, n))
        delta[:, re, re] = delta[:, im, im] = pull[:, :pairs].real
        delta[:, im, re] = pull[:, :pairs].imag
        delta[:, re, im] = -pull[:, :pairs].imag
        delta[:, last, last] = pull[:, pairs:].real
        return delta

    def input(self) -> Float:
        """(systems, n) ``B``."""
        root = np.sqrt(2) * self.pair_input
        return np.concatenate([root.real, root.imag, self.real_input], axis=1)

    def factor(self) -> Float:
        """(systems, n, n) ``R`` with ``R^T R`` the controllability Gramian."""
        return real_factor(self.pair_log_pole, self.pair_input, self.real_log_pole, self.real_input)
