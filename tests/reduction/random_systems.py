"""Random systems of many kinds, and independent references for what reduction does to them."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import numpy as np
from mpmath import mp

from s4edge.model.modes import Modes

Rng = np.random.Generator


def make(log_pole, weight) -> Modes:
    """One channel."""
    return Modes.make(log_pole, weight, np.zeros(len(log_pole)), 1)


def weights(rng: Rng, n: int, orders: float = 1.0) -> np.ndarray:
    """Complex weights whose moduli spread over ``orders`` orders of magnitude."""
    return 10 ** rng.uniform(-orders, 0, n) * np.exp(2j * np.pi * rng.uniform(size=n))


def decays(rng: Rng, n: int, slowest: float = 1e-3) -> np.ndarray:
    return np.exp(rng.uniform(np.log(slowest), np.log(0.7), n))


def _spread(rng: Rng, n: int) -> Modes:
    return make(-decays(rng, n) + 1j * rng.uniform(0.02, 3.1, n), weights(rng, n))


def _wide_weights(rng: Rng, n: int) -> Modes:
    return make(-decays(rng, n) + 1j * rng.uniform(0.02, 3.1, n), weights(rng, n, 12))


def _slow(rng: Rng, n: int) -> Modes:
    decay = np.where(np.arange(n) % 3 == 0, 1e-6, decays(rng, n, 1e-6))
    return make(-decay + 1j * rng.uniform(0.02, 3.1, n), weights(rng, n, 3))


def _s4d_like(rng: Rng, n: int) -> Modes:
    step = 10 ** rng.uniform(-3, -1)
    return make(step * (-0.5 + 1j * np.pi * np.arange(n)), weights(rng, n))


def _clustered(rng: Rng, n: int) -> Modes:
    groups = np.arange(n) // 3
    centre = (-decays(rng, n, 1e-2) + 1j * rng.uniform(0.1, 3.0, n))[groups]
    offset = np.array([1e-2, 1e-4, 1e-6])[rng.integers(0, 3, n)]
    return make(centre * (1 + offset * rng.normal(size=n)), weights(rng, n, 2))


def _repeated(rng: Rng, n: int) -> Modes:
    some = -decays(rng, n, 1e-4) + 1j * rng.uniform(0.02, 3.1, n)
    return make(some[rng.integers(0, max(1, n // 2), n)], weights(rng, n))


def _real(rng: Rng, n: int) -> Modes:
    angle = np.where(rng.uniform(size=n) < 0.5, 0, np.pi)
    return make(-decays(rng, n, 1e-5) + 1j * angle, weights(rng, n, 3).real)


def _mixed(rng: Rng, n: int) -> Modes:
    angle = np.where(rng.uniform(size=n) < 0.4, rng.integers(0, 2, n) * np.pi, 0)
    angle = np.where(angle == 0, rng.integers(0, 2, n) * rng.uniform(0.02, 3.1, n), angle)
    weight = weights(rng, n, 6) * (rng.uniform(size=n) < 0.9)
    return make(-decays(rng, n, 1e-6) + 1j * angle, weight)


FAMILIES: dict[str, Callable[[Rng, int], Modes]] = {
    "spread": _spread,
    "weights over 12 orders": _wide_weights,
    "slow": _slow,
    "s4d-like": _s4d_like,
    "clustered": _clustered,
    "repeated": _repeated,
    "real": _real,
    "mixed": _mixed,
}


# Reference in many digits


class PreciseSystem:
    """One channel's real system in mpmath, equal poles merged and modes of weight 0 left out.

    The coordinates are those of `s4edge.reduction.gramians.real_factor`.
    """

    def __init__(self, modes: Modes, digits: int = 120) -> None:
        assert modes.channels == 1
        mp.dps = digits
        merged: dict[complex, mpmath.mpc] = {}
        for log_pole, weight in zip(modes.log_pole, modes.weight, strict=True):
            key = complex(log_pole.real, abs(log_pole.imag))
            w = mpmath.mpc(complex(weight))
            merged[key] = merged.get(key, mpmath.mpc(0)) + (
                w if log_pole.imag >= 0 else w.conjugate()
            )
        pairs, reals = [], []
        for key, w in merged.items():
            if w == 0:
                continue
            radius = mpmath.exp(mpmath.mpf(key.real))
            if key.imag == 0:
                reals.append((radius, w.real))
            elif key.imag == np.pi:
                reals.append((-radius, w.real))
            else:
                pairs.append((radius * mpmath.expj(mpmath.mpf(key.imag)), w))
        self.pairs, self.reals = pairs, reals

    def symmetric(self):
        """``P`` and the signs ``S`` of the real system with ``C = B S``, so that ``Q = S P S``."""
        p, q = len(self.pairs), len(self.reals)
        n = 2 * p + q
        P = mpmath.matrix(n, n)
        a = [pole for pole, _ in self.pairs]
        b = [mpmath.sqrt(w / 2) for _, w in self.pairs]
        for i in range(p):
            for j in range(p):
                x = b[i] * mpmath.conj(b[j]) / (1 - a[i] * mpmath.conj(a[j]))
                y = b[i] * b[j] / (1 - a[i] * a[j])
                P[i, j] = x.real + y.real
                P[p + i, p + j] = x.real - y.real
                P[p + i, j] = x.imag + y.imag
                P[j, p + i] = x.imag + y.imag
        for k, (pole, w) in enumerate(self.reals):
            g = mpmath.sqrt(abs(w))
            for i in range(p):
                x = mpmath.sqrt(2) * b[i] * g / (1 - a[i] * pole)
                P[i, 2 * p + k] = P[2 * p + k, i] = x.real
                P[p + i, 2 * p + k] = P[2 * p + k, p + i] = x.imag
            for m, (other, v) in enumerate(self.reals):
                P[2 * p + k, 2 * p + m] = g * mpmath.sqrt(abs(v)) / (1 - pole * other)
        signs = [1] * p + [-1] * p + [1 if w > 0 else -1 for _, w in self.reals]
        return P, signs

    def hankel(self) -> np.ndarray:
        """Hankel singular values, descending."""
        P, signs = self.symmetric()
        n = len(signs)
        if n == 0:
            return np.zeros(0)
        L = mpmath.cholesky(P)
        X = L.T * mpmath.diag(signs) * L
        values = sorted((abs(x) for x in mpmath.eigsy(X, eigvals_only=True)), reverse=True)
        # Their product is a determinant known in closed form: were the digits enough?
        product = mpmath.fprod(values) / self.determinant()
        assert abs(product - 1) < mpmath.mpf(10) ** -20, (
            f"too few digits: {mpmath.nstr(product, 5)}"
        )
        return np.array([float(value) for value in values])

    def determinant(self):
        """Of ``P``, by Cauchy's formula: the product of the Hankel singular values."""
        a = [pole for pole, _ in self.pairs]
        a += [pole.conjugate() for pole in a] + [mpmath.mpc(pole) for pole, _ in self.reals]
        result = mpmath.fprod(abs(w / 2) ** 2 for _, w in self.pairs)
        result *= mpmath.fprod(abs(w) for _, w in self.reals)
        for i in range(len(a)):
            for j in range(len(a)):
                result /= 1 - a[i] * mpmath.conj(a[j])
                if i < j:
                    result *= abs(a[i] - a[j]) ** 2
        return abs(result)
