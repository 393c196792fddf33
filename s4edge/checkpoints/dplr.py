"""Diagonal plus low-rank state matrices (S4 proper), whatever upstream's version stores."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from s4edge.arrays import Complex, Float
from s4edge.checkpoints.diagonalize import DenseSystems, diagonalize, refusing
from s4edge.checkpoints.discretize import known_length
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.stored_kernels import Kernels, kernel_length, tile
from s4edge.checkpoints.tensors import Tensors


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


@dataclass(frozen=True)
class Bandlimit:
    """Upstream's mask of fast modes, which it lays on ``C`` as transformed for a kernel's length.

    Attributes:
        limit: modes whose frequency is half of it or more are left out.
        nodes: the kernel's length, as upstream would have it.
        length: the one sequence length that this is for, or None.
    """

    limit: float
    nodes: int
    length: int | None


def read_bandlimit(facts: Facts, stored: int) -> Bandlimit | None:
    """What the facts say of it, if anything.

    Args:
        facts: about the layer: ``bandlimit``, ``l_max``, ``length``.
        stored: the length that ``C`` was transformed for, 0 if it was not.

    Raises:
        S4EdgeError: a fact is wrong, or the length is needed and missing.
    """
    limit = facts.number("bandlimit", None)
    if limit is None:
        return None
    cut = kernel_length(facts)
    if cut is not None and (stored == 0 or cut <= stored):
        return Bandlimit(limit, stored or cut, None)
    length = known_length(
        facts, "a bandlimit in mode nplr has an effect that depends on the length of the sequences"
    )
    wanted = min(length, cut or length)
    nodes = stored or wanted
    while nodes < wanted:
        nodes *= 2
    return Bandlimit(limit, nodes, length)


def read_low_rank(
    systems: LowRankSystems, tensors: Tensors, kind: str, band: Bandlimit | None = None
) -> Kernels:
    """Discretize bilinearly and diagonalize, in the real and imaginary parts of ``x``.

    Raises:
        S4EdgeError: the number of systems does not fit, or the matrices have no diagonal form.
    """
    d_model, half = systems.C.shape[1:]
    steps = np.broadcast_to(systems.step, (d_model, half))
    step = np.tile(steps, 2)
    A = tile(_real_matrices(systems), d_model, tensors)
    B = tile(np.concatenate([systems.B.real, systems.B.imag], axis=-1), d_model, tensors)
    C = 2 * np.concatenate([systems.C.real, -systems.C.imag], axis=-1)
    where = f"{tensors.path}: {tensors.prefix.rstrip('.')}".rstrip(": ")
    with refusing(where):
        dense = DenseSystems.bilinear(step[:, :, None] * A, step * B, C)
        if systems.stored_length:
            dense = dense.untruncated(systems.stored_length)
        if band is not None:
            frequency = steps * np.abs(tile(systems.A, d_model, tensors).imag) / (2 * np.pi)
            passed = np.tile(frequency < band.limit / 2, 2)
            dense = dense.truncated(band.nodes)
            dense = replace(dense, C=dense.C * passed).untruncated(band.nodes)
    kernels = diagonalize(dense, where, kind, 2 * half)
    return kernels if band is None else replace(kernels, length=band.length)


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
