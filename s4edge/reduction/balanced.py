"""Balanced truncation of the real discrete system of each channel.

Each mode counts together with its conjugate: only the real part of the output is ever used.
With ``w_n`` split evenly into input and output weight, the observability Gramian is the
controllability Gramian with the sign of every ``Im x`` coordinate changed, ``Q = S P S``, so that
one factor ``P = R^T R`` serves for both and the Hankel singular values are the singular values of
the symmetric matrix ``R S R^T``.

Sources: B. Moore, "Principal component analysis in linear systems" (1981); the bound
``||G - G_r||_inf <= 2 sum_{k>r} sigma_k``: D. Enns (1984), K. Glover (1984), in discrete time
U. Al-Saggaf and G. Franklin (1987). Factors: `s4edge.reduction.gramians`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from s4edge.model.modes import Modes, expm1, log1p
from s4edge.reduction.base import Int, Reduced
from s4edge.reduction.gramians import real_factor

Complex = NDArray[np.complex128]
Float = NDArray[np.float64]

# States below this Hankel singular value, relative to the largest, are beyond double precision.
NEGLIGIBLE = 1e-15


def balanced_truncation(modes: Modes, orders: Int) -> Reduced:
    """Reduce every channel to its order. See `s4edge.reduction.base.Method`.

    Args:
        modes: stable systems.
        orders: (channels,) real states to keep.
    """
    parts: list[Modes] = []
    hankel: list[Float] = [np.zeros(0)] * modes.channels
    bound = np.zeros(modes.channels)
    for channels in same_shape(modes):
        group = modes.of_channels(channels)
        realization = _real_systems(group)
        for index, channel in enumerate(channels):
            system = _RealSystem(*(part[index] for part in realization))
            sigma, pole, weight = _truncate(system, int(orders[channel]))
            hankel[channel] = sigma
            bound[channel] = 2 * sigma[orders[channel] :].sum()
            parts.append(Modes.make(pole, weight, np.full(len(pole), channel), modes.channels))
    return Reduced(Modes.concatenate(parts), hankel, bound)


def hankel_singular_values(modes: Modes) -> list[Float]:
    """Per channel, the Hankel singular values of the real system, descending."""
    values: list[Float] = [np.zeros(0)] * modes.channels
    for channels in same_shape(modes):
        realization = _real_systems(modes.of_channels(channels))
        for index, channel in enumerate(channels):
            values[channel] = _svd(_RealSystem(*(part[index] for part in realization)))[1]
    return values


def same_shape(modes: Modes) -> list[Int]:
    """Channels grouped by their numbers of pairs and real poles, to be worked on as one array."""
    real = np.bincount(modes.channel[modes.is_real], minlength=modes.channels)
    pairs = np.bincount(modes.channel[~modes.is_real], minlength=modes.channels)
    shapes, group = np.unique(np.stack([pairs, real]), axis=1, return_inverse=True)
    return [np.flatnonzero(group.reshape(-1) == index) for index in range(shapes.shape[1])]


class _RealSystem:
    """One system in the coordinates of `real_factor`.

    Attributes:
        delta: (n, n) ``A - I``, block diagonal, formed from the logarithms of the poles.
        input: (n,) ``B``; the output is ``C = B S``.
        signs: (n,) the diagonal of ``S``.
        factor: (n, n) ``R`` with ``P = R^T R``.
    """

    def __init__(self, delta: Float, input: Float, signs: Float, factor: Float) -> None:
        self.delta, self.input, self.signs, self.factor = delta, input, signs, factor


def _real_systems(group: Modes) -> tuple[Float, Float, Float, Float]:
    """`_RealSystem`'s arrays for channels of one shape, stacked."""
    channels, real = group.channels, group.is_real
    pair_log = group.log_pole[~real].reshape(channels, -1)
    # Re(w a^k) is the sum of the mode and its conjugate, each with half the weight.
    pair_input = np.sqrt(group.weight[~real].reshape(channels, -1) / 2)
    real_log = group.log_pole[real].reshape(channels, -1)
    real_weight = group.weight[real].real.reshape(channels, -1)
    real_input = np.sqrt(np.abs(real_weight))
    pairs, reals = pair_log.shape[1], real_log.shape[1]

    delta = np.zeros((channels, 2 * pairs + reals, 2 * pairs + reals))
    re, im, last = np.arange(pairs), pairs + np.arange(pairs), 2 * pairs + np.arange(reals)
    pull = expm1(pair_log)
    delta[:, re, re] = delta[:, im, im] = pull.real
    delta[:, im, re] = pull.imag
    delta[:, re, im] = -pull.imag
    delta[:, last, last] = expm1(real_log).real
    root = np.sqrt(2)
    input = np.concatenate([root * pair_input.real, root * pair_input.imag, real_input], axis=1)
    signs = np.ones_like(input)
    signs[:, im] = -1
    signs[:, last] = np.where(real_weight < 0, -1.0, 1.0)
    return delta, input, signs, real_factor(pair_log, pair_input, real_log, real_input)


def _svd(system: _RealSystem) -> tuple[Float, Float, Float]:
    """Singular vectors and values of ``R S R^T`` by Jacobi rotations.

    The matrix is graded from both sides; one-sided Jacobi with pivoting (LAPACK's gejsv, for
    ``D1 C D2`` with a well-conditioned C) keeps its small singular values relatively accurate.
    """
    product = (system.factor * system.signs) @ system.factor.T
    if not product.any():
        n = len(product)
        return np.eye(n), np.zeros(n), np.eye(n)
    values, U, V, work, _, info = lapack.dgejsv(product, joba=2, jobu=0, jobv=0, jobr=0)
    if info != 0:  # no convergence in LAPACK's 30 sweeps; never met
        U, values, Vt = np.linalg.svd(product)
        return U, values, Vt.T
    return U, values * (work[0] / work[1]), V


def _truncate(system: _RealSystem, order: int) -> tuple[Float, Complex, Complex]:
    """Hankel singular values, and ``log a`` and ``w`` of the truncated system."""
    U, sigma, V = _svd(system)
    kept = min(order, int(np.count_nonzero(sigma > NEGLIGIBLE * sigma[:1].max(initial=0))))
    if kept == 0:
        return sigma, np.zeros(0, np.complex128), np.zeros(0, np.complex128)
    scale = 1 / np.sqrt(sigma[:kept])
    # P = R^T R and Q = (R S)^T (R S): with S R^T = left factor's transpose.
    T = system.factor.T @ (V[:, :kept] * scale)
    W = system.signs[:, None] * (system.factor.T @ (U[:, :kept] * scale))
    delta = W.T @ system.delta @ T
    B = W.T @ system.input
    C = (system.input * system.signs) @ T
    pole, weight = diagonalize(delta, B, C)
    return sigma, pole, weight


def diagonalize(delta: Float, B: Float, C: Float) -> tuple[Complex, Complex]:
    """Modes of a real system given by ``A - I``, ``B`` and ``C``.

    Returns:
        ``log a`` and ``w`` with one mode per conjugate pair, ``sum Re(w a^k) = C A^k B``.
    """
    values, vectors = np.linalg.eig(delta)
    weight = (C @ vectors) * np.linalg.solve(vectors, B.astype(vectors.dtype))
    values, weight = values.astype(np.complex128), weight.astype(np.complex128)
    upper = values.imag >= 0
    weight = np.where(values.imag > 0, 2 * weight, weight)[upper]
    return log1p(values[upper]), weight
