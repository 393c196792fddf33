"""State matrices stored as they are (upstream's dense kernels, made for tests and ablations)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s4edge.checkpoints.diagonalize import DenseSystems, diagonalize, refusing
from s4edge.checkpoints.kernels import Kernels, tile
from s4edge.checkpoints.tensors import Tensors

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class Dense:
    """``x' = A x + B u``, ``y = Re C x``, no factor 2.

    Attributes:
        A: (systems, n, n).
        B: (systems, n).
        C: (rows, features, n).
        step: (features, 1) step sizes.
    """

    A: Complex
    B: Complex
    C: Complex
    step: Float


def read_dense(systems: Dense, tensors: Tensors, kind: str) -> Kernels:
    """Discretize bilinearly and diagonalize.

    Args:
        systems: in continuous time.
        tensors: of the layer, for messages.
        kind: for people.

    Raises:
        S4EdgeError: the number of systems does not fit, or there is no accurate diagonal form.
    """
    step, d_model = systems.step, systems.C.shape[1]
    A = step[:, :, None] * tile(systems.A, d_model, tensors)
    B = step * tile(systems.B, d_model, tensors)
    where = f"{tensors.path}: {tensors.prefix.rstrip('.')}".rstrip(": ")
    with refusing(where):
        dense = _real_form(A, B, systems.C) or DenseSystems.bilinear(A, B, systems.C)
    return diagonalize(dense, where, kind, systems.A.shape[-1])


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
