"""The energy of the error that reduced poles leave, and its derivatives; see `h2_optimal`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from s4edge.arrays import Complex, Float, Int
from s4edge.systems.gramians import real_factor
from s4edge.systems.modes import Modes, expm1, log1p

# Between two poles that are equal: 0 would leave 0 / 0 in derivatives and weights.
NUDGE = 1e-30


@dataclass(frozen=True)
class System:
    """Given systems of one shape: p pairs and q real poles each, n = 2 p + q.

    Attributes:
        pull: (systems, p + q) ``a - 1``, one of each pair.
        weight: (systems, p + q); a pair's is that of its real part, twice that of either half.
        scale: (systems, p + q) by which the functions ``a^k`` are normalized.
        factor: (systems, n, n) ``R`` with ``R^T R`` the Gramian of ``s Re a^k``, then ``s Im a^k``
            of the pairs, then ``s a^k`` of the real poles.
        pairs: p.
    """

    pull: Complex
    weight: Complex
    scale: Float
    factor: Float
    pairs: int

    @staticmethod
    def of(group: Modes) -> System:
        """Of channels that have equally many pairs and equally many real poles."""

        def split(values: Complex) -> tuple[Complex, Complex]:
            halves = values[~group.is_real], values[group.is_real]
            first, second = (half.reshape(group.channels, -1) for half in halves)
            return first, second

        pair, real = split(group.log_pole)
        log_pole = np.concatenate([pair, real], axis=1)
        scale = np.sqrt(-np.expm1(2 * log_pole.real))
        pairs = pair.shape[1]
        factor = real_factor(pair, scale[:, :pairs] / np.sqrt(2) + 0j, real, scale[:, pairs:])
        pull = expm1(log_pole)
        pull[:, pairs:].imag = 0
        weight = np.concatenate(split(group.weight), axis=1)
        return System(pull, weight, scale, factor, pairs)

    def some(self, chosen: Int) -> System:
        """Some of the systems."""
        return System(
            self.pull[chosen], self.weight[chosen], self.scale[chosen], self.factor[chosen],
            self.pairs,
        )  # fmt: skip

    def signal(self, weight: Complex) -> Float:
        """Coordinates, (systems, n) or (systems, n, m): their length is that of ``sum Re w a^k``.

        Args:
            weight: (systems, p + q) or (systems, p + q, m).
        """
        w = weight / self.scale.reshape(self.scale.shape + (1,) * (weight.ndim - 2))
        p = self.pairs
        coordinates = np.concatenate([w[:, :p].real, -w[:, :p].imag, w[:, p:].real], axis=1)
        if weight.ndim == 2:
            return (self.factor @ coordinates[..., None])[..., 0]
        return self.factor @ coordinates

    def adjoint(self, signal: Float) -> Complex:
        """(systems, p + q) ``k`` with ``<signal, signal(w)> = Re sum k w``."""
        h, p = np.einsum("cij,ci->cj", self.factor, signal), self.pairs
        halves = [h[:, :p] + 1j * h[:, p : 2 * p], h[:, 2 * p :]]
        k: Complex = np.concatenate(halves, axis=1)
        k /= self.scale
        return k


@dataclass(frozen=True)
class ReducedPoles:
    """Reduced poles ``1 + m +- root(D)``, and ``1 + x`` for one that is left over.

    Attributes:
        m: (systems, r // 2).
        D: (systems, r // 2).
        x: (systems, r % 2).
    """

    m: Float
    D: Float
    x: Float

    @staticmethod
    def of(reduced: Modes) -> ReducedPoles:
        """Of channels with equally many real states."""
        pulls = []
        for channel in range(reduced.channels):
            one = reduced.select(reduced.channel == channel)
            pull, real = expm1(one.log_pole), one.is_real
            pulls.append(
                np.concatenate([pull[~real], pull[~real].conj(), pull[real].real.astype(complex)])
            )
        return ReducedPoles.paired(np.array(pulls))

    @staticmethod
    def paired(pulls: Complex) -> ReducedPoles:
        """Of real poles, the nearest neighbours together: they may become a conjugate pair."""
        m, D, x = [], [], []
        for each in pulls:
            upper, real = each[each.imag > 0], np.sort(each[each.imag == 0].real)
            means, halves = list(upper.real), list(-(upper.imag**2))
            while len(real) > 1:
                i = int(np.argmin(np.diff(real)))
                means.append((real[i] + real[i + 1]) / 2)
                halves.append((real[i] - real[i + 1]) ** 2 / 4)
                real = np.delete(real, [i, i + 1])
            m.append(means)
            D.append(halves)
            x.append(real)
        return ReducedPoles(np.array(m), np.array(D), np.array(x))

    def some(self, chosen: Int) -> ReducedPoles:
        """Of some of the systems."""
        return ReducedPoles(self.m[chosen], self.D[chosen], self.x[chosen])

    def with_more(self, m: Float, D: Float) -> ReducedPoles:
        """Two poles more each, by ``m`` and ``D`` (systems,)."""
        return ReducedPoles(np.column_stack([self.m, m]), np.column_stack([self.D, D]), self.x)

    def plus(self, step: Float) -> ReducedPoles:
        """Moved by ``step``, (systems, r)."""
        half = self.m.shape[1]
        return ReducedPoles(
            self.m + step[:, :half],
            self.D + step[:, half : 2 * half],
            self.x + step[:, 2 * half :],
        )

    def replaced(self, where: Int, by: ReducedPoles) -> ReducedPoles:
        """Some systems' poles replaced."""
        m, D, x = self.m.copy(), self.D.copy(), self.x.copy()
        m[where], D[where], x[where] = by.m, by.D, by.x
        return ReducedPoles(m, D, x)

    def pulls(self) -> Complex:
        """(systems, r) ``alpha - 1``: ``m + root(D)``, ``m - root(D)``, ``x``."""
        root = np.sqrt(self.D.astype(np.complex128))
        return np.concatenate([self.m + root, self.m - root, self.x], axis=1)

    def decay(self) -> Float:
        """(systems,) of the slowest pole, ``1 - |alpha|``, positive if stable."""
        log_pole = log1p(self.pulls())
        return -np.expm1(log_pole.real.max(axis=1, initial=-1.0))


def differences(system: System, poles: ReducedPoles) -> tuple[Complex, Complex]:
    """(systems, p + q, r) ``a_n - alpha_i`` and ``1 - alpha_i a_n``."""
    a, alpha = system.pull[:, :, None], poles.pulls()[:, None, :]
    apart = a - alpha
    return np.where(apart == 0, NUDGE, apart), -(a + alpha + a * alpha)


def energy_of(system: System, poles: ReducedPoles) -> Float:
    """(systems,) of the error with the best weights."""
    return (system.signal(system.weight * blaschke(system, poles)) ** 2).sum(axis=1)


def blaschke(system: System, poles: ReducedPoles) -> Complex:
    """(systems, p + q) by what ``w_n`` is multiplied to make ``f_n``."""
    N, M = differences(system, poles)
    return (N / M).prod(axis=2)


def derivatives(system: System, poles: ReducedPoles) -> tuple[Float, Float, Float, Float]:
    """Derivatives of the energy by ``m``, ``D`` and ``x``.

    Returns:
        Half the gradient (systems, r), half the Hessian (systems, r, r), the Hessian's part that
        has first derivatives only, and the energy (systems,).
    """
    apart, mirrored = differences(system, poles)
    f = system.weight * blaschke(system, poles)
    signal = system.signal(f)
    half = poles.m.shape[1]
    pair = slice(0, half), slice(half, 2 * half)
    a = 1 + system.pull[:, :, None]
    # Of the factor (a - alpha) (a - alpha') / ((1 - alpha a) (1 - alpha' a)) = N / M: the
    # derivatives of N and M by m and D, relative to them.
    N, M = (both[..., pair[0]] * both[..., pair[1]] for both in (apart, mirrored))
    Nm = -(apart[..., pair[0]] + apart[..., pair[1]]) / N
    Mm = -a * (mirrored[..., pair[0]] + mirrored[..., pair[1]]) / M
    ND, MD, Nx, Mx = (
        -1 / N,
        -(a * a) / M,
        -1 / apart[..., 2 * half :],
        -a / mirrored[..., 2 * half :],
    )
    slope = np.concatenate([Nm - Mm, ND - MD, Nx - Mx], axis=2)

    J = system.signal(f[..., None] * slope)
    back = system.adjoint(signal) * f
    gradient = np.einsum("cn,cni->ci", back, slope).real
    gauss = J.transpose(0, 2, 1) @ J
    curvature = (slope.transpose(0, 2, 1) @ (back[..., None] * slope)).real

    # The second derivative within one factor is not the product of the slopes. Without 1 / N^2.
    def second(*terms: Complex) -> Float:
        return np.einsum("cn,cni->ci", back, sum(terms)).real

    m, D, x = np.arange(half), np.arange(half, 2 * half), np.arange(2 * half, slope.shape[2])
    curvature[:, m, m] = second(2 / N, -2 * Nm * Mm, -2 * a * a / M, 2 * Mm * Mm)
    curvature[:, D, D] = second(-2 * ND * MD, 2 * MD * MD)
    curvature[:, m, D] = curvature[:, D, m] = second(-Nm * MD, -ND * Mm, 2 * Mm * MD)
    curvature[:, x, x] = second(-2 * Nx * Mx, 2 * Mx * Mx)
    return gradient, gauss + curvature, gauss, (signal**2).sum(axis=1)
