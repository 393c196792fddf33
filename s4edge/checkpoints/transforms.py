"""Upstream's maps from free parameters to positive numbers."""

from __future__ import annotations

import numpy as np

from s4edge.arrays import Float
from s4edge.errors import S4EdgeError

TRANSFORMS = ("exp", "none", "relu", "sigmoid", "softplus")

# What "relu" adds.
FLOOR = 1e-4
# What an exponential stands at for a value of 0.
_ALMOST_ZERO = 1e-12


def transform(value: Float, name: str, floor: float = FLOOR) -> Float:
    """One of `TRANSFORMS`.

    Args:
        value: the free parameters.
        name: of the transform.
        floor: what "relu" adds.
    """
    if name == "exp":
        return np.exp(value)
    if name == "relu":
        return np.maximum(value, 0) + floor
    if name == "sigmoid":
        # 1 / (1 + exp(-x)) without overflow.
        return np.exp(-np.logaddexp(0, -value))
    if name == "softplus":
        return np.logaddexp(value, 0)
    return value


def invert(value: Float, name: str, what: str) -> Float:
    """The free parameters that a transform maps to ``value``.

    Args:
        value: of the layer.
        name: of the transform.
        what: the parameter, for messages.

    Raises:
        S4EdgeError: it maps none to it.
    """
    if name == "none":
        return value
    low, high = {"relu": (FLOOR, np.inf), "sigmoid": (0.0, 1.0)}.get(name, (0.0, np.inf))
    # What rounding took below a floor is meant to be at it.
    bad = (value < low * (1 - 1e-3)) | (value >= high)
    if bad.any():
        raise S4EdgeError(
            f"the layer's {what}={name} holds values from {low:g}"
            + (f" to {high:g}" if np.isfinite(high) else " up")
            + f", the reduced systems need {value[bad][0]:.6g}; retrain with another, or write "
            "s4edge's own format"
        )
    if name == "relu":
        return np.maximum(value - FLOOR, 0)
    value = np.maximum(value, _ALMOST_ZERO)
    if name == "exp":
        return np.log(value)
    if name == "sigmoid":
        return np.log(value) - np.log1p(-value)
    # softplus
    out: Float = value + np.log(-np.expm1(-value))
    return out
