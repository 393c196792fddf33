"""Diagonal plus low-rank state matrices (S4 proper), whatever upstream's version stores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s4edge.checkpoints.diagonalize import DenseSystems, diagonalize, refusing
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.kernels import Kernels, tile
from s4edge.checkpoints.tensors import Tensors
from s4edge.errors import S4EdgeError

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class LowRankSystems:
    """``x' = (diag(A) - sum_r P_r Q_r^T) x + B u`` together with its conjugate, ``y = 2 Re C x``.

    Attributes:
        A: (systems, n).
        P: (rank, systems, n).
        Q: (rank, systems, n).
        B: (systems, n).
        C: (rows, features, n), as stored.
        step: (features, 1 or n) step sizes.
        stored_length: ``C (I - dA^length)`` is stored for this length; 0 if ``C`` itself is.
    """

    A: Complex
    P: Complex
    Q: Complex
    B: Complex
    C: Complex
    step: Float
    stored_length: int


def read_low_rank(systems: LowRankSystems, tensors: Tensors, kind: str) -> Kernels:
    """Discretize bilinearly and diagonalize, in the real and imaginary parts of ``x``.

    Raises:
        S4EdgeError: the number of systems does not fit, or the matrices have no diagonal form.
    """
    d_model, half = systems.C.shape[1:]
    step = np.tile(np.broadcast_to(systems.step, (d_model, half)), 2)
    A = tile(_real_matrices(systems), d_model, tensors)
    B = tile(np.concatenate([systems.B.real, systems.B.imag], axis=-1), d_model, tensors)
    C = 2 * np.concatenate([systems.C.real, -systems.C.imag], axis=-1)
    where = f"{tensors.path}: {tensors.prefix.rstrip('.')}".rstrip(": ")
    with refusing(where):
        dense = DenseSystems.bilinear(step[:, :, None] * A, step * B, C)
        if systems.stored_length:
            dense = dense.untruncated(systems.stored_length)
    return diagonalize(dense, where, kind, 2 * half)


def _real_matrices(systems: LowRankSystems) -> Float:
    """(systems, 2n, 2n): ``A x - 2 P Re(Q^T x)`` in the real and imaginary parts of ``x``."""
    half = systems.A.shape[1]
    P = np.concatenate([systems.P.real, systems.P.imag], axis=-1)
    Q = np.concatenate([systems.Q.real, -systems.Q.imag], axis=-1)
    matrix = -2 * np.einsum("rsm,rsn->smn", P, Q)
    i = np.arange(half)
    matrix[:, i, i] += systems.A.real
    matrix[:, half + i, half + i] += systems.A.real
    matrix[:, i, half + i] -= systems.A.imag
    matrix[:, half + i, i] += systems.A.imag
    return matrix


def refuse_bandlimit(tensors: Tensors, facts: Facts) -> None:
    """Upstream masks ``C`` after transforming it for a length, so the mask's effect depends on it.

    Raises:
        S4EdgeError: there is a bandlimit.
    """
    if facts.number("bandlimit", None) is not None:
        raise S4EdgeError(
            f"{tensors.path}: {tensors.prefix.rstrip('.')} has a bandlimit in mode nplr, whose "
            "effect depends on upstream's internal kernel length; only mode diag is read with it"
        )
