"""From diagonal continuous-time systems to modes in discrete time."""

from __future__ import annotations

from typing import Any

import numpy as np

from s4edge.arrays import Complex, Float
from s4edge.checkpoints.facts import Facts
from s4edge.errors import S4EdgeError
from s4edge.systems.modes import expm1


def zero_order_hold(A: Complex, step: Float) -> tuple[Complex, Complex]:
    """Logarithms of the discrete poles, and what multiplies ``B``."""
    z = step * A
    return z, expm1(z) / A


def bilinear(A: Complex, step: Float) -> tuple[Complex, Complex]:
    """Logarithms of the discrete poles, and what multiplies ``B``."""
    z = step * A
    below = 1 - z / 2
    # |1 + z/2|^2 - |1 - z/2|^2 = 2 Re z keeps slow poles accurate.
    modulus = 0.5 * np.log1p(2 * z.real / np.abs(below) ** 2)
    return modulus + 1j * np.angle((1 + z / 2) / below), step / below


def normalized(A: Complex, step: Float, length: int, epsilon: float) -> tuple[Complex, Complex]:
    """The same for kernels normalized over one length; see `softmax_gain`."""
    z = step * A
    return z, softmax_gain(z, A, length, epsilon)


def softmax_gain(z: Complex, A: Complex, length: int, epsilon: float) -> Complex:
    """What turns a weight into that of ``exp(z k)`` for kernels normalized over one length.

    Modes with ``Re A > 0`` are normalized at the kernel's end; ``epsilon`` rounds the reciprocal
    as upstream does.
    """
    grows = A.real > 0
    inward = np.where(grows, -z, z)
    bottom = expm1(inward * length) * A
    gain = expm1(inward) * bottom.conj() / (np.abs(bottom) ** 2 + epsilon)
    return gain * np.where(grows, np.exp(-z * (length - 1)), 1)


def known_length(facts: Facts, why: str) -> int:
    """The length of the sequences that a layer sees, for kernels that depend on it.

    Args:
        facts: about the layer.
        why: it matters, for the question.

    Raises:
        S4EdgeError: it is unknown, or no number of samples.
    """
    length = facts.get("length", why=f"{why}, which the file does not hold")
    return whole_number(facts, "length", length)


def whole_number(facts: Facts, key: str, value: Any) -> int:
    """A number of samples.

    Raises:
        S4EdgeError: it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**31:
        raise S4EdgeError(
            f"{facts.path}: {key} must be a whole number of samples, got {value!r}; "
            f"say it with --set {key}=VALUE"
        )
    return value
