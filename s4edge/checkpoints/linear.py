"""Linear layers of checkpoints: plain, as 1x1 convolutions, with weight normalization."""

from __future__ import annotations

import numpy as np

from s4edge.arrays import Float
from s4edge.checkpoints.tensors import Tensors

# Names of the magnitude and the direction of a normalized weight, torch's old and new.
_NORMALIZED = (
    ("weight_g", "weight_v"),
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
)


def find(tensors: Tensors, *prefixes: str) -> str | None:
    """The first prefix below which there is a linear layer."""
    directions = ["weight", *(direction for _, direction in _NORMALIZED)]
    for prefix in prefixes:
        if any(prefix + name in tensors for name in directions):
            return prefix
    return None


def is_normalized(tensors: Tensors, prefix: str) -> bool:
    """Whether its weight is stored as magnitude and direction."""
    return prefix + "weight" not in tensors


def size(tensors: Tensors, prefix: str) -> tuple[int, int]:
    """Rows and columns of a linear layer's weight."""
    name, _ = _weight_names(tensors, prefix)
    shape = tensors.shape(prefix + name)
    if len(shape) < 2:
        tensors.shape(prefix + name, "rows", "columns")
    return shape[0], shape[1]


def axes(tensors: Tensors, prefix: str) -> int:
    """Axes of length 1 behind those of weight and bias, for the time that follows the features."""
    name, _ = _weight_names(tensors, prefix)
    weight, bias = tensors.shape(prefix + name), tensors.shape(prefix + "bias")
    return max(len(weight) - 2, len(bias) - 1)


def take(tensors: Tensors, prefix: str, rows: int, columns: int) -> tuple[Float, Float]:
    """Weight (rows, columns) and bias (rows,); axes of length 1 may follow in the checkpoint.

    Raises:
        S4EdgeError: a tensor is missing or has another shape.
    """
    name, magnitude = _weight_names(tensors, prefix)
    ones = (1,) * (len(tensors.shape(prefix + name)) - 2)
    weight = tensors.take(prefix + name, rows, columns, *ones).reshape(rows, columns)
    if magnitude is not None:
        length = tensors.take(prefix + magnitude, rows, 1, *ones).reshape(rows, 1)
        norm = np.linalg.norm(weight, axis=1, keepdims=True)
        weight = weight * (length / norm)
    ones = (1,) * (len(tensors.shape(prefix + "bias")) - 1)
    return weight, tensors.take(prefix + "bias", rows, *ones).reshape(rows)


def _weight_names(tensors: Tensors, prefix: str) -> tuple[str, str | None]:
    for magnitude, direction in _NORMALIZED:
        if prefix + direction in tensors:
            return direction, magnitude
    return "weight", None
