"""Balancing of the real discrete system of each channel: Hankel singular values, coordinates.

Each mode counts together with its conjugate: only the real part of the output is ever used.
With ``w_n`` split evenly into input and output weight, the observability Gramian is the
controllability Gramian with the sign of every ``Im x`` coordinate changed, ``Q = S P S``, so that
one factor ``P = R^T R`` serves for both and the Hankel singular values are the singular values of
the symmetric matrix ``R S R^T``. That matrix is graded from both sides: Jacobi rotations with
pivoting keep its small singular values relatively accurate, and so does a faster way where the
grading is mild.

Source: B. Moore, "Principal component analysis in linear systems" (1981). Factors:
`s4edge.systems.gramians`.
"""

from __future__ import annotations

import numpy as np

from s4edge.arrays import Bool, Complex, Float, Int
from s4edge.systems.generators import Generators, same_shape
from s4edge.systems.lapack import jacobi_svd
from s4edge.systems.modes import Modes, log1p
from s4edge.systems.parallel import batches_of, map_batches

# States below this Hankel singular value, relative to the largest, are beyond double precision.
NEGLIGIBLE = 1e-15
# Ratio of a Gramian factor's squared rows, about that of Hankel singular values, from which QR
# iteration leaves eigenvectors good enough to be corrected.
_MILD = 1e-9
# Relative change of a Hankel singular value that does not matter.
_UNCHANGED = 1e-15
# Channels worked on at once.
_LEAST, _MOST = 8, 128


def hankel_singular_values(modes: Modes) -> list[Float]:
    """Per channel, the Hankel singular values of the real system, descending."""
    values: list[Float] = [np.zeros(0)] * modes.channels

    def find(channels: Int) -> None:
        sigma = RealSystems(Generators.of(modes.of_channels(channels))).svd()[1]
        for channel, each in zip(channels, sigma, strict=True):
            values[channel] = each

    map_batches(find, balancing_batches(modes))
    return values


def balancing_batches(modes: Modes) -> list[Int]:
    """Channels of one shape to work on at once.

    Enough for numpy, few enough for all cores to get some of a small layer, and some 20 MB at most.
    """
    states = np.maximum(modes.real_states, 1)
    return [
        batch
        for channels in same_shape(modes)
        for batch in batches_of(
            channels, min(_MOST, max(_LEAST, 2**17 // int(states[channels[0]]) ** 2))
        )
    ]


class RealSystems:
    """Systems of one shape, p pairs and q real poles, in the coordinates of `real_factor`.

    Attributes:
        pull: (systems, p + q) ``a - 1``, formed from the logarithms of the poles.
        input: (systems, n) ``B``; the output is ``C = B S``.
        signs: (systems, n) the diagonal of ``S``.
        factor: (systems, n, n) ``R`` with ``P = R^T R``.
    """

    def __init__(self, generators: Generators) -> None:
        self.pull, self.input = generators.pull(), generators.input()
        self.signs, self.factor = generators.signs, generators.factor()

    def svd(self) -> tuple[Float, Float, Float]:
        """Singular vectors and values of ``R S R^T``: U, sigma and V."""
        product = (self.factor * self.signs[:, None, :]) @ self.factor.transpose(0, 2, 1)
        U, V, sigma = np.zeros_like(product), np.zeros_like(product), np.zeros(product.shape[:2])
        size = np.einsum("ijk,ijk->ij", self.factor, self.factor)
        mild = np.flatnonzero(size.min(axis=1, initial=1) > _MILD * size.max(axis=1, initial=0))
        hard = np.ones(len(product), dtype=bool)
        # Few at a time: small arrays stay in the cache, and the heap need not be grown for them.
        few = max(1, 2**14 // max(1, product.shape[1]) ** 2)
        for start in range(0, len(mild), few):
            some = mild[start : start + few]
            values, vectors, accurate = self._eigh(some, product[some])
            done = some[accurate]
            sigma[done], V[done] = np.abs(values[accurate]), vectors[accurate]
            U[done] = vectors[accurate] * np.sign(values[accurate])[:, None, :]
            hard[done] = False
        U[hard], sigma[hard], V[hard] = jacobi_svd(product[hard])
        return U, sigma, V

    def _eigh(self, which: Int, product: Float) -> tuple[Float, Float, Bool]:
        """Eigenvalues by QR iteration, made relatively accurate afterwards where that is possible.

        The vectors ``V`` are orthogonal to rounding, so that ``V^T (R S R^T) V`` formed from the
        factor has the same eigenvalues, relatively (Ostrowski); and it is nearly diagonal.

        Args:
            which: (m,) indices of systems.
            product: (m, n, n).

        Returns:
            Eigenvalues (m, n), moduli descending, their vectors (m, n, n), and (m,) whether what
            is left beside the diagonal changes no eigenvalue relatively.
        """
        V = np.linalg.eigh(product)[1]
        Y = self.factor[which].transpose(0, 2, 1) @ V
        near = Y.transpose(0, 2, 1) @ (self.signs[which, :, None] * Y)
        values = np.diagonal(near, axis1=1, axis2=2).copy()
        index = np.arange(near.shape[1])
        near[:, index, index] = 0
        size = np.abs(values)
        smaller = np.minimum(size[:, :, None], size[:, None, :])
        gap = values[:, None, :] - values[:, :, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            turn = near / gap
            first_order = np.abs(near / smaller)
            # What a pair's entry adds to its values: e^2 / gap, or e where they are equal.
            change = first_order * np.fmin(np.abs(turn), 1)
        accurate: Bool = (change <= _UNCHANGED).all(axis=(1, 2))
        turn[~(np.abs(turn) < 0.1) | (first_order <= _UNCHANGED)] = 0
        V += V @ turn
        order = np.argsort(-size, axis=1, kind="stable")
        return (
            np.take_along_axis(values, order, axis=1),
            np.take_along_axis(V, order[:, None, :], axis=2),
            accurate,
        )

    def truncate(
        self, which: Int, U: Float, sigma: Float, V: Float
    ) -> tuple[Complex, Complex, Int]:
        """Keep the states of some singular vectors.

        Args:
            which: (m,) indices of systems.
            U: (systems, n, order) singular vectors.
            sigma: (systems, order).
            V: (systems, n, order).

        Returns:
            ``log a`` and ``w`` of all modes, and which of the m each belongs to, ascending.
        """
        transposed = self.factor[which].transpose(0, 2, 1)
        signs, input = self.signs[which, :, None], self.input[which, :, None]
        scale = 1 / np.sqrt(sigma[which])[:, None, :]
        # P = R^T R and Q = (R S)^T (R S): with S R^T = left factor's transpose.
        T = transposed @ (V[which] * scale)
        W = (signs * (transposed @ (U[which] * scale))).transpose(0, 2, 1)
        # W^T T is the identity up to rounding that small singular values magnify.
        both = np.concatenate([self._delta(which, T), input], axis=2)
        projected = np.linalg.solve(W @ T, W @ both)
        C = ((input * signs).transpose(0, 2, 1) @ T)[:, 0]
        values, weight = _eigen(projected[..., :-1], projected[..., -1], C)
        upper = values.imag >= 0
        return log1p(values[upper]), weight[upper], np.nonzero(upper)[0]

    def _delta(self, which: Int, T: Float) -> Float:
        """``(A - I) T``, with ``A - I`` made of blocks ``[[re, -im], [im, re]]`` of ``pull``."""
        n = T.shape[1]
        pairs = n - self.pull.shape[1]
        pull = self.pull[which, :, None]
        re, im = pull.real, pull.imag[:, :pairs]
        out = np.empty_like(T)
        top, middle = T[:, :pairs], T[:, pairs : 2 * pairs]
        out[:, :pairs] = re[:, :pairs] * top - im * middle
        out[:, pairs : 2 * pairs] = im * top + re[:, :pairs] * middle
        out[:, 2 * pairs :] = re[:, pairs:] * T[:, 2 * pairs :]
        return out


def diagonalize(delta: Float, B: Float, C: Float) -> tuple[Complex, Complex]:
    """Modes of a real system given by ``A - I``, ``B`` and ``C``.

    Returns:
        ``log a`` and ``w`` with one mode per conjugate pair, ``sum Re(w a^k) = C A^k B``.
    """
    values, weight = _eigen(delta[None], B[None], C[None])
    upper = values[0].imag >= 0
    return log1p(values[0, upper]), weight[0, upper]


def _eigen(delta: Float, B: Float, C: Float) -> tuple[Complex, Complex]:
    """Eigenvalues of ``A - I`` (systems, n, n) and their weights, that of a pair on its upper one.

    ``B`` and ``C`` are (systems, n). Systems do not influence each other.
    """
    values, vectors = np.linalg.eig(delta)
    # Not real just because all eigenvalues of all systems are.
    values, vectors = values.astype(np.complex128), vectors.astype(np.complex128)
    values, vectors = _corrected(delta, values, vectors)
    right = np.linalg.solve(vectors, B[..., None].astype(np.complex128))[..., 0]
    weight = (C[:, None, :] @ vectors)[:, 0] * right
    return values, np.where(values.imag > 0, 2 * weight, weight)


def _corrected(delta: Float, values: Complex, vectors: Complex) -> tuple[Complex, Complex]:
    """Eigenvalues and vectors after a step of Newton's method, which takes off most rounding.

    An eigenvalue stays as it is where the step is not small, and on its side of the real axis.
    """
    rest = np.linalg.solve(vectors, delta @ vectors - vectors * values[:, None, :])
    index = np.arange(values.shape[1])
    step = rest[:, index, index]
    gap = values[:, None, :] - values[:, :, None]
    gap[:, index, index] = np.inf
    small = (np.abs(rest) <= 0.1 * np.abs(gap)).all(axis=1)
    turn = np.zeros_like(rest)
    np.divide(rest, gap, out=turn, where=small[:, None, :])
    new = values + np.where(values.imag == 0, step.real, step)
    same_side = np.sign(new.imag) == np.sign(values.imag)
    return np.where(small & same_side, new, values), vectors + vectors @ turn
