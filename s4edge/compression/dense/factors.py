"""A dense layer as a product of two matrices that loses least on the inputs that it sees.

For inputs of covariance ``C``, and errors of answers that count by ``G``, the product of rank r
that makes ``|G^(1/2) (W - L R) C^(1/2)|_F`` least is ``G^(-1/2) U U' G^(1/2) W`` with the first r
left singular vectors ``U`` of ``G^(1/2) W C^(1/2)``: principal components of what the layer
answers. No inverse of ``C`` is needed, so it may be singular. The bias takes what the mean of the
inputs loses. ``G`` is the second moment of the gradients of the model's output there.

Behind layers that were changed before it, a layer sees other inputs than it did. Then ``W`` is
first replaced by the matrix that from those inputs comes closest to the answers of before (least
squares), which together is the closest of all matrices of that rank: reduced-rank regression.

Sources: C. Eckart and G. Young (1936); A. Izenman, "Reduced-rank regression for the multivariate
linear model" (1975); for neural networks P. Chen et al., "DRONE" (2021), Z. Yuan et al., "ASVD:
activation-aware singular value decomposition" (arXiv 2312.05821); the second moments of inputs and
gradients as the curvature of a layer, J. Martens and R. Grosse, "K-FAC" (2015).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from s4edge.arrays import Float

# Of the inputs' mean variance, as if white noise of that share were added: what data say nothing
# of is then kept as it is.
_NOISE = 1e-4
# The same where it only decides between what the data cannot tell apart.
_LEAST_NOISE = 1e-12
# Of the mean sensitivity: what the output does not feel counts a little.
_LEAST_SENSITIVITY = 1e-3


@dataclass(frozen=True)
class Affine:
    """``weight @ x + bias``: weight (rows, columns), bias (rows,)."""

    weight: Float
    bias: Float


@dataclass(frozen=True)
class Factored:
    """``left @ (right @ x) + bias``: left (rows, rank), right (rank, columns), bias (rows,)."""

    left: Float
    right: Float
    bias: Float


@dataclass(frozen=True)
class Moments:
    """Of what enters a layer in the original model, x, and in the smaller one, x'.

    Attributes:
        mean: (columns,) of x.
        reached_mean: (columns,) of x'.
        covariance: (columns, columns) of x.
        cross: (columns, columns) of x with x'.
        reached: (columns, columns) of x'.
    """

    mean: Float
    reached_mean: Float
    covariance: Float
    cross: Float
    reached: Float


@dataclass(frozen=True)
class Components:
    """Principal components of what a layer answers, the first ones those that matter most.

    Attributes:
        directions: (rows, n) of each component in the answer, of unit length; n is the smaller of
            rows and columns.
        onto: (n, rows) what takes each out of an answer.
        energy: (n,) squared singular values.
    """

    directions: Float
    onto: Float
    energy: Float


def components(weight: Float, covariance: Float, sensitivity: Float | None = None) -> Components:
    """Of ``weight @ x``.

    Args:
        weight: (rows, columns).
        covariance: (columns, columns) of x.
        sensitivity: (rows, rows) by which errors of the answer count; None: all the same.
    """
    variance, axes = np.linalg.eigh((covariance + covariance.T) / 2)
    # A tie is broken by the weights' own size.
    variance = np.maximum(variance, _LEAST_NOISE * max(float(variance[-1]), 1e-300))
    root = inverse = np.eye(len(weight))
    if sensitivity is not None and np.trace(sensitivity) > 0:
        gain, turn = np.linalg.eigh((sensitivity + sensitivity.T) / 2)
        gain = np.sqrt(np.maximum(gain, 0) + _LEAST_SENSITIVITY * gain.mean())
        root, inverse = (turn * gain) @ turn.T, (turn / gain) @ turn.T
    found, values, _ = np.linalg.svd(
        root @ weight @ (axes * np.sqrt(variance)), full_matrices=False
    )
    directions, onto = inverse @ found, found.T @ root
    length = np.linalg.norm(directions, axis=0)
    return Components(directions / length, onto * length[:, None], np.square(values))


def factored(
    layer: Affine, moments: Moments, rank: int, sensitivity: Float | None = None
) -> Factored:
    """The product of rank ``rank`` that from x' comes closest to what the layer made of x."""
    weight = _regressed(layer.weight, moments)
    found = components(weight, moments.reached, sensitivity)
    left, right = found.directions[:, :rank], found.onto[:rank] @ weight
    answer = layer.weight @ moments.mean + layer.bias
    return Factored(left, right, answer - left @ (right @ moments.reached_mean))


def _regressed(weight: Float, moments: Moments) -> Float:
    """The matrix that from x' comes closest to ``weight @ x``; the same where x' is x."""
    reached = moments.reached
    noise = _NOISE * max(float(np.trace(reached)) / len(reached), 1e-300)
    missing = (moments.cross - reached).T @ weight.T
    change: Float = np.linalg.solve(reached + noise * np.eye(len(reached)), missing).T
    return weight + change
