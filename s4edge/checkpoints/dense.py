"""State matrices stored as they are (upstream's dense kernels, made for tests and ablations)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from s4edge.checkpoints.diagonalize import DenseSystems, diagonalize, refusing
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.kernels import Kernels, tile
from s4edge.checkpoints.tensors import Tensors

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]


def read_dense(tensors: Tensors, facts: Facts, step: Float, rows: int, kind: str) -> Kernels:
    """Discretize bilinearly and diagonalize; ``y = Re C x``, no factor 2.

    Args:
        tensors: of the layer, with ``kernel.A``, ``B``, ``C``.
        facts: about it.
        step: (d_model, 1).
        rows: of ``C``.
        kind: for people.

    Raises:
        S4EdgeError: a tensor has another shape, or there is no accurate diagonal form.
    """
    systems, n, _, _ = tensors.shape("kernel.A", "systems", "d_state", "d_state", "2")
    facts.infer("d_state", n)
    d_model = len(step)
    A = tile(tensors.take_complex("kernel.A", systems, n, n), d_model, tensors)
    B = tile(tensors.take_complex("kernel.B", systems, n), d_model, tensors)
    C = tensors.take_complex("kernel.C", rows, d_model, n)
    A, B = step[:, :, None] * A, step * B
    where = f"{tensors.path}: {tensors.prefix.rstrip('.')}".rstrip(": ")
    with refusing(where):
        dense = _real_form(A, B, C) or DenseSystems.bilinear(A, B, C)
    return diagonalize(dense, where, kind, n)


def _real_form(A: Complex, B: Complex, C: Complex) -> DenseSystems | None:
    """The same systems with a real state matrix, if ``A`` is real or conjugates with its halves."""
    if not A.imag.any():
        return DenseSystems.bilinear(A.real, B, C)
    n = A.shape[-1]
    half = n // 2
    swap = np.roll(np.arange(n), half)
    if n % 2 or not np.array_equal(A[:, swap][:, :, swap], A.conj()):
        return None
    # From real and imaginary parts to a vector and its conjugate.
    identity = np.eye(half)
    U = np.block([[identity, 1j * identity], [identity, -1j * identity]])
    back = U.conj().T / 2
    return DenseSystems.bilinear((back @ A @ U).real, B @ back.T, C @ U)
