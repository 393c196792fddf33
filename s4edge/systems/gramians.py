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

from s4edge.arrays import Complex, Float, Int
from s4edge.systems.lapack import pivoted_r

# |a| of a pole that is over within a sample, in double precision; below, products underflow.
_FASTEST = -350.0


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
    everyone = np.arange(systems)
    log_radius, angle = np.maximum(log_pole.real, _FASTEST), log_pole.imag
    pole = np.exp(log_radius + 1j * angle)
    pull = np.expm1(log_radius)
    decay = -np.expm1(2 * log_radius)
    g = generator.astype(np.complex128)
    done = np.zeros((systems, n))
    columns = np.zeros((n, systems, n), dtype=np.complex128)
    pivots = np.zeros((systems, n), dtype=np.int64)
    step = np.empty((systems, n), dtype=np.complex128)
    for column in range(n):
        # What is done has g = 0, and must lose to a g that is 0 as well.
        k = np.argmax((g.real**2 + g.imag**2) / decay - done, axis=1)
        pivots[:, column] = k
        done[everyone, k] = 1
        # 1 - a_i conj(a_k) = 1 - exp(x + i y) and a_i - a_k = a_k (exp(x' + i y) - 1), with the
        # same y, each relatively accurate when made of exp(x) - 1, sin y and 1 - cos y.
        tangent = np.tan((angle - angle[everyone, k, None]) / 2)
        sine = 2 * tangent / (1 + tangent * tangent)
        lag = tangent * sine
        cosine = 1 - lag
        pivot_pull = pull[everyone, k, None]
        both = pull + pivot_pull + pull * pivot_pull
        real, imag = lag - both * cosine, (1 + both) * sine
        square = real * real + imag * imag
        g_over = columns[column]
        np.divide(real, square, out=g_over.real)
        np.divide(imag, square, out=g_over.imag)
        g_over *= g
        apart = np.expm1(log_radius - log_radius[everyone, k, None])
        np.subtract(apart * cosine, lag, out=step.real)
        np.multiply(1 + apart, sine, out=step.imag)
        step *= pole[everyone, k, None]
        pivot_g = g[everyone, k]
        np.multiply(g_over, step, out=g)
        # L_ik = g_i conj(g_k) / (1 - a_i conj(a_k)) / sqrt(|g_k|^2 / (1 - |a_k|^2))
        # Not conj(g) / |g|, which overflows where fast poles leave a subnormal g.
        phase = np.where(pivot_g == 0, 0, np.exp(-1j * np.angle(pivot_g)))
        g_over *= (phase * np.sqrt(decay[everyone, k]))[:, None]
    return columns.transpose(1, 2, 0), pivots


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
    # F F^* is real for F = [sqrt(1/2) (upper + lower), -i sqrt(1/2) (upper - lower), real], so that
    # [Re F, Im F] is a factor too. Its columns are graded; a QR of the transpose is row-wise
    # accurate when the rows come sorted and the columns are pivoted.
    systems, n, _ = L.shape
    root = np.sqrt(0.5)
    out = np.empty((systems, n, n))
    F = np.empty((n, n), dtype=np.complex128)
    # One by one: what is small stays in the cache.
    for index in range(systems if n else 0):
        upper, lower = L[index, :pairs], L[index, pairs : 2 * pairs]
        np.multiply(root, upper + lower, out=F[:pairs])
        np.multiply(-1j * root, upper - lower, out=F[pairs : 2 * pairs])
        F[2 * pairs :] = L[index, 2 * pairs :]
        out[index] = pivoted_r(F.view(np.float64)[None])[0]
    return out
