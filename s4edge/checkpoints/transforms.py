"""Upstream's maps from free parameters to positive numbers."""

from __future__ import annotations

import numpy as np

from s4edge.arrays import Float

TRANSFORMS = ("exp", "none", "relu", "sigmoid", "softplus")


def transform(value: Float, name: str, floor: float = 1e-4) -> Float:
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
