"""Random systems of many kinds, and independent references for what reduction does to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import mpmath
import numpy as np
import scipy.linalg

from s4edge.systems.modes import Modes

Rng = np.random.Generator


def make(log_pole, weight) -> Modes:
    """One channel."""
    return Modes.make(log_pole, weight, np.zeros(len(log_pole)), 1)


def side_by_side(parts: list[Modes]) -> Modes:
    """Systems of one channel as the channels of one."""
    return Modes.make(
        np.concatenate([part.log_pole for part in parts]),
        np.concatenate([part.weight for part in parts]),
        np.repeat(np.arange(len(parts)), [len(part.weight) for part in parts]),
        len(parts),
    )


def weights(rng: Rng, n: int | tuple[int, ...], orders: float = 1.0) -> np.ndarray:
    """Complex weights whose moduli spread over ``orders`` orders of magnitude."""
    return 10 ** rng.uniform(-orders, 0, n) * np.exp(2j * np.pi * rng.uniform(size=n))


def decays(rng: Rng, n: int | tuple[int, ...], slowest: float = 1e-3) -> np.ndarray:
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
    "slow poles": _slow,
    "s4d-like": _s4d_like,
    "clustered": _clustered,
    "repeated": _repeated,
    "real": _real,
    "mixed": _mixed,
}


# Reference in many digits. Merge equal poles first: repeated ones make Gramians singular.


class Precise(NamedTuple):
    """One channel's poles (of one mode of each pair) and weights in mpmath, all distinct."""

    pairs: list[tuple[mpmath.mpc, mpmath.mpc]]
    reals: list[tuple[mpmath.mpf, mpmath.mpf]]


def merged(modes: Modes) -> Precise:
    """Equal poles merged, modes of weight 0 left out. To be called inside ``workdps``."""
    assert modes.channels == 1
    total: dict[tuple[float, float], mpmath.mpc] = {}
    for log_pole, weight in zip(modes.log_pole, modes.weight, strict=True):
        w = mpmath.mpc(complex(weight))
        key = (log_pole.real, abs(log_pole.imag))
        total[key] = total.get(key, 0) + (w if log_pole.imag >= 0 else w.conjugate())
    precise = Precise([], [])
    for (log_radius, angle), w in total.items():
        radius = mpmath.exp(mpmath.mpf(log_radius))
        if w == 0:
            continue
        if angle in (0, np.pi):
            precise.reals.append((radius if angle == 0 else -radius, w.real))
        else:
            precise.pairs.append((radius * mpmath.expj(mpmath.mpf(angle)), w))
    return precise


def real_gramian(system: Precise) -> tuple[mpmath.matrix, list[int]]:
    """``P`` in the coordinates of `real_factor`, and the signs ``S`` of ``C = B S``.

    The weight of each mode is split evenly into ``b = sqrt(w / 2)`` for a pair's half and
    ``sqrt(abs(w))`` for a real pole; then ``Q = S P S``.
    """
    pairs, reals = system
    p, q = len(pairs), len(reals)
    P = mpmath.matrix(2 * p + q, 2 * p + q)
    b = [mpmath.sqrt(w / 2) for _, w in pairs]
    for i, (a_i, _) in enumerate(pairs):
        for j, (a_j, _) in enumerate(pairs):
            x = b[i] * b[j].conjugate() / (1 - a_i * a_j.conjugate())  # E x_i conj(x_j)
            y = b[i] * b[j] / (1 - a_i * a_j)  # E x_i x_j
            P[i, j], P[p + i, p + j] = x.real + y.real, x.real - y.real
            P[p + i, j] = P[j, p + i] = x.imag + y.imag
    for k, (a_k, w_k) in enumerate(reals, start=2 * p):
        for i, (a_i, _) in enumerate(pairs):
            x = mpmath.sqrt(2 * abs(w_k)) * b[i] / (1 - a_i * a_k)
            P[i, k] = P[k, i] = x.real
            P[p + i, k] = P[k, p + i] = x.imag
        for m, (a_m, w_m) in enumerate(reals, start=2 * p):
            P[k, m] = mpmath.sqrt(abs(w_k * w_m)) / (1 - a_k * a_m)
    return P, [1] * p + [-1] * p + [1 if w > 0 else -1 for _, w in reals]


def determinant(system: Precise) -> mpmath.mpf:
    """Of ``P``, by Cauchy's formula: the product of the Hankel singular values."""
    pairs, reals = system
    poles = [a for a, _ in pairs] + [a.conjugate() for a, _ in pairs] + [a for a, _ in reals]
    result = mpmath.fprod(abs(w / 2) ** 2 for _, w in pairs)
    result *= mpmath.fprod(abs(w) for _, w in reals)
    for i, a_i in enumerate(poles):
        for j, a_j in enumerate(poles):
            result /= 1 - a_i * mpmath.conj(a_j)
            result *= abs(a_i - a_j) if i != j else 1
    return abs(result)


def precise_hankel(modes: Modes, digits: int = 150) -> np.ndarray:
    """Hankel singular values of one channel, descending."""
    with mpmath.workdps(digits):
        system = merged(modes)
        P, signs = real_gramian(system)
        if not signs:
            return np.zeros(0)
        L = mpmath.cholesky(P)
        eigenvalues = mpmath.eigsy(L.T * mpmath.diag(signs) * L, eigvals_only=True)
        values = sorted((abs(x) for x in eigenvalues), reverse=True)
        ratio = mpmath.fprod(values) / determinant(system)
        assert abs(ratio - 1) < mpmath.mpf(10) ** -20, "too few digits"
        return np.array([float(value) for value in values])


# Reference in double precision, for well-conditioned systems


class Dense(NamedTuple):
    """``x' = A x + B u``, kernel ``C A^k B``, with matrices of any kind."""

    A: np.ndarray
    B: np.ndarray
    C: np.ndarray

    def kernel(self, length: int) -> np.ndarray:
        """The real part of the impulse response, step by step."""
        state, out = self.B, []
        for _ in range(length):
            out.append(self.C @ state)
            state = self.A @ state
        return np.array(out).real


def dense_real(modes: Modes) -> Dense:
    """One channel in real coordinates, all of the weight in the output."""
    blocks, B, C = [], [], []
    for a, w, real in zip(modes.pole, modes.weight, modes.is_real, strict=True):
        blocks.append([[a.real]] if real else [[a.real, -a.imag], [a.imag, a.real]])
        B += [1] if real else [1, 0]
        C += [w.real] if real else [w.real, -w.imag]
    return Dense(scipy.linalg.block_diag(*blocks), np.array(B, float), np.array(C))


def dense_balanced_truncation(system: Dense, order: int) -> tuple[Dense, np.ndarray]:
    """The square-root method as in textbooks; and the Hankel singular values."""
    A, B, C = system
    P = scipy.linalg.solve_discrete_lyapunov(A, np.outer(B, B.conj()))
    Q = scipy.linalg.solve_discrete_lyapunov(A.conj().T, np.outer(C.conj(), C))
    R, L = np.linalg.cholesky(P), np.linalg.cholesky(Q)
    U, sigma, Vh = np.linalg.svd(L.conj().T @ R)
    scale = 1 / np.sqrt(sigma[:order])
    T = R @ Vh[:order].conj().T * scale
    W = L @ U[:, :order] * scale
    return Dense(W.conj().T @ A @ T, W.conj().T @ B, C @ T), sigma


def rounding(modes: Modes) -> float:
    """H-infinity error that rounding may cause, over all channels.

    Poles of a reduced system are known to 16 digits of 1, not of their distance from the unit
    circle: a slow pole's resonance is known to ``1e-16 / (1 - abs(a))`` of its height.
    """
    decay = -np.expm1(modes.log_pole.real)
    return 1e-13 * float((np.abs(modes.weight) / decay).sum()) * (10 + 1 / decay.min(initial=1))
