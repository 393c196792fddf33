"""State matrices stored as they are (upstream's dense kernels, made for tests and ablations)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from s4edge.arrays import Complex, Float
from s4edge.checkpoints.diagonalize import DenseSystems, diagonalize, refusing
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.stored_kernels import Kernels, tile
from s4edge.checkpoints.tensors import Tensors
from s4edge.errors import S4EdgeError


@dataclass(frozen=True)
class DenseStates:
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


def told(facts: Facts, key: str) -> Any:
    """What is said of an option that may be one value or a group of them; None for nothing."""
    facts.ignore(key)
    return facts.overrides.get(key, facts.saved.get(key))


def refuse_frozen(tensors: Tensors, key: str, said: Any, trained: bool) -> None:
    """Kernels of which nothing is trained: upstream goes on using the first that it computed.

    Args:
        tensors: of the layer, for messages.
        key: the option that says what is trained.
        said: its value.
        trained: whether any of the state matrix, ``B`` and step sizes is.

    Raises:
        S4EdgeError: nothing is.
    """
    if trained:
        return
    free = "true" if key == "trainable" else "null"
    raise S4EdgeError(
        f"{tensors.path}: {tensors.prefix.rstrip('.') or 'the layer'} has a dense state matrix of "
        f"which nothing is trained ({key}={json.dumps(said)}): upstream keeps the kernel of its "
        "first input, with that input's length, in memory and not in the file; if what is in the "
        f"file is what it computes, say so with --set {key}={free}"
    )


def read_dense(systems: DenseStates, tensors: Tensors, kind: str) -> Kernels:
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
