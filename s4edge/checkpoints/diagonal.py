"""Diagonal state matrices (S4D), whatever upstream's version stores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from s4edge.arrays import Complex, Float
from s4edge.checkpoints.discretize import bilinear, known_length, normalized, zero_order_hold
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.stored_kernels import Kernels, kernel_length, tile
from s4edge.checkpoints.tensors import Tensors

# What upstream adds to the reciprocals of kernels normalized over their length.
_EPSILON = 1e-7


@dataclass(frozen=True)
class Diagonal:
    """``x' = diag(A) x + B u``, ``y = 2 Re C x``.

    Attributes:
        A: (systems, n).
        B: (systems, n).
        C: (rows, features, n).
        step: (features, 1 or n) step sizes.
    """

    A: Complex
    B: Complex
    C: Complex
    step: Float


def read_diagonal(
    systems: Diagonal, tensors: Tensors, facts: Facts, disc: str, kind: str, state_size: int
) -> Kernels:
    """Discretize as the facts say.

    Args:
        systems: in continuous time.
        tensors: for messages.
        facts: about the layer: ``disc``, ``bandlimit``, ``length``, ``l_max``.
        disc: upstream's default.
        kind: for people.
        state_size: upstream's ``d_state``.

    Raises:
        S4EdgeError: the number of systems does not fit, or a fact is missing or wrong.
    """
    step, C = systems.step, systems.C
    A, B = (tile(value, C.shape[1], tensors) for value in (systems.A, systems.B))
    bandlimit = facts.number("bandlimit", None)
    if bandlimit is not None:
        C = C * (step * np.abs(A.imag) / (2 * np.pi) < bandlimit * 0.5)
    disc = facts.get("disc", disc, allowed=("zoh", "bilinear", "dss"))
    if disc == "dss":
        length = known_length(
            facts, "kernels of disc=dss are normalized over the length of the sequences"
        )
        cut = min(length, kernel_length(facts) or length)
        log_pole, gain = normalized(A, step, cut, _EPSILON)
        # The real part is taken, and not twice.
        return Kernels.diagonal(log_pole, C * B * gain, kind, state_size, length)
    log_pole, gain = (zero_order_hold if disc == "zoh" else bilinear)(A, step)
    return Kernels.diagonal(log_pole, 2 * C * B * gain, kind, state_size)
