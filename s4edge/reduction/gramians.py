"""Factors of Gramians that keep small Hankel singular values accurate.

The Gramian of a diagonal discrete system is Cauchy-like,
``P_ij = g_i conj(g_j) / (1 - a_i conj(a_j))``, and so badly conditioned that a Cholesky
factorization of the assembled matrix breaks down. Elimination that works on the generators
``a, g`` alone never subtracts nearly equal numbers: after pivot k the Schur complement is again
Cauchy-like, with ``g_i (a_i - a_k) / (1 - a_i conj(a_k))`` in place of ``g_i``.

Sources: J. Demmel, "Accurate singular value decompositions of structured matrices" (1999);
T. Haut and G. Beylkin, "Fast and accurate con-eigenvalue algorithm for optimal rational
approximations" (2012); A. Cox and N. Higham, "Stability of Householder QR factorization for
weighted least squares problems" (1998).
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from s4edge.model.modes import expm1

Complex = NDArray[np.complex128]
Float = NDArray[np.float64]
Int = NDArray[np.int64]


def cauchy_factor(log_pole: Complex, generator: Complex) -> tuple[Complex, Int]:
    """Pivoted factor ``L`` of ``P = L L^*`` for many systems at once.

    Args:
        log_pole: (systems, n) ``log a`` with ``|a| < 1``.
        generator: (systems, n) ``g``.

    Returns:
        ``L`` (systems, n, n) with rows in the order of ``log_pole`` and columns in the order of
        elimination, norms descending by and large; and that order of pivots, (systems, n).
    """
    systems, n = log_pole.shape
    # 1 - a_i conj(a_j) and a_i - a_j without cancellation, from the logarithms.
    denominator = -expm1(log_pole[:, :, None] + log_pole.conj()[:, None, :])
    difference = np.exp(log_pole)[:, None, :] * expm1(log_pole[:, :, None] - log_pole[:, None, :])
    decay = np.diagonal(denominator, axis1=1, axis2=2).real
    everyone = np.arange(systems)
    g = generator.astype(np.complex128)
    left = np.ones((systems, n), dtype=bool)
    factor = np.zeros((systems, n, n), dtype=np.complex128)
    pivots = np.zeros((systems, n), dtype=np.int64)
    for column in range(n):
        size = np.where(left, np.abs(g) ** 2 / decay, -1.0)
        k = np.argmax(size, axis=1)
        pivots[:, column] = k
        pivot_g, pivot_decay = g[everyone, k], decay[everyone, k]
        # L_ik = g_i conj(g_k) / (1 - a_i conj(a_k)) / sqrt(|g_k|^2 / (1 - |a_k|^2))
        # Not conj(g) / |g|, which overflows where fast poles leave a subnormal g.
        phase = np.where(pivot_g == 0, 0, np.exp(-1j * np.angle(pivot_g)))
        scale = phase * np.sqrt(pivot_decay)
        to_pivot = denominator[everyone, :, k]
        factor[everyone, :, column] = g * scale[:, None] / to_pivot
        left[everyone, k] = False
        g = np.where(left, g * difference[everyone, :, k] / to_pivot, 0)
    return factor, pivots


def real_factor(pair_log_pole: Complex, pair_generator: Complex,
                real_log_pole: Complex, real_generator: Float) -> Float:  # fmt: skip
    """Real factor ``R`` of the Gramian ``R^T R`` of real systems in real coordinates.

    The coordinates are, for p conjugate pairs and q real poles, ``sqrt(2) Re x_n`` of the pairs,
    then ``sqrt(2) Im x_n``, then the real states: n = 2 p + q.

    Args:
        pair_log_pole: (systems, p) one pole of each pair.
        pair_generator: (systems, p) its generator.
        real_log_pole: (systems, q) with imaginary part 0 or pi.
        real_generator: (systems, q).

    Returns:
        (systems, n, n) with rows descending in norm by and large.
    """
    pairs = pair_log_pole.shape[1]
    log_pole = np.concatenate([pair_log_pole, pair_log_pole.conj(), real_log_pole], axis=1)
    generator = np.concatenate([pair_generator, pair_generator.conj(), real_generator], axis=1)
    L, _ = cauchy_factor(log_pole, generator)
    upper, lower, real = L[:, :pairs], L[:, pairs : 2 * pairs], L[:, 2 * pairs :]
    root = np.sqrt(0.5)
    F = np.concatenate([root * (upper + lower), -1j * root * (upper - lower), real], axis=1)
    # F F^* is real, so that [Re F, Im F] is a factor too. Its columns are graded; a QR of the
    # transpose is row-wise accurate when the rows come sorted and the columns are pivoted.
    systems, n, _ = F.shape
    stacked = np.stack([F.real, F.imag], axis=-1).reshape(systems, n, 2 * n).transpose(0, 2, 1)
    out = np.zeros((systems, n, n))
    for index in range(systems if n else 0):
        R, columns = scipy.linalg.qr(stacked[index], mode="r", pivoting=True, check_finite=False)
        out[index][:, columns] = R[:n]
    return out
