"""Constants of a model as arrays of C."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s4edge.arrays import Float
from s4edge.errors import S4EdgeError
from s4edge.export.lowering.program import Constant

# Rows of a matrix that lie side by side, and those at its end.
_ROWS, _LAST_ROWS = 16, 8
_BYTE_LARGEST = 127
_TYPES = {
    "f": "float",
    "d": "double",
    "b": "signed char",
    "H": "unsigned short",
    "B": "unsigned char",
}
_PER_LINE = {"f": 8, "d": 4, "b": 24, "H": 16, "B": 24}


@dataclass(frozen=True)
class Array:
    """One array of C.

    Attributes:
        name: of it.
        comment: what it is.
        values: flat, of the type that C gets.
    """

    name: str
    comment: str
    values: NDArray[np.generic]

    def __str__(self) -> str:
        kind = self.values.dtype.char
        words = [literal(v) if kind == "f" else repr(v) for v in self.values.tolist()]
        per = _PER_LINE[kind]
        lines = [", ".join(words[i : i + per]) for i in range(0, len(words), per)]
        body = ",\n    ".join(lines)
        aligned = " ALIGNED" if kind == "f" else ""
        declared = f"static const {_TYPES[kind]} {self.name}[{len(words)}]{aligned}"
        return f"/* {self.comment} */\n{declared} = {{\n    {body},\n}};"


def literal(value: float) -> str:
    """A number as C's float."""
    text = str(np.float32(value))
    return (text if "." in text or "e" in text else text + ".0") + "f"


def floats(name: str, comment: str, values: Float) -> Array:
    """Numbers as float32.

    Raises:
        S4EdgeError: one of them is too large for it.
    """
    with np.errstate(over="ignore"):
        single = np.asarray(values, np.float64).reshape(-1).astype(np.float32)
    if not np.isfinite(single).all():
        raise S4EdgeError(
            f"{comment} holds numbers too large for single precision, the only one in C files"
        )
    return Array(name, comment, single)


def doubles(name: str, comment: str, values: Float) -> Array:
    """Numbers as they are."""
    return Array(name, comment, np.asarray(values, np.float64).reshape(-1))


def indices(name: str, comment: str, values: NDArray[np.int64]) -> Array:
    """Small whole numbers."""
    return Array(name, comment, np.asarray(values).reshape(-1).astype(np.uint16))


def padded(values: Float, to: int) -> Float:
    """(n, ...) filled up with zeros to a multiple of ``to``."""
    missing = -len(values) % to
    return np.concatenate([values, np.zeros((missing, *values.shape[1:]))])


def side_by_side(matrix: Float) -> Float:
    """(out, in) flat, rows side by side as ``dense`` in kernels.c reads them."""
    rows = padded(matrix, _LAST_ROWS)
    whole = len(rows) // _ROWS * _ROWS
    parts = [rows[start : start + _ROWS].T for start in range(0, whole, _ROWS)]
    return np.concatenate([part.reshape(-1) for part in [*parts, rows[whole:].T]])


def byte_steps(rows: Float) -> Float:
    """(rows,) what one step of a signed byte is worth in each row."""
    return np.abs(rows).max(axis=1) / _BYTE_LARGEST


def in_bytes(rows: Float) -> Float:
    """(rows, columns) as whole numbers from -127 to 127."""
    steps = byte_steps(rows)
    return np.rint(rows / np.where(steps > 0, steps, 1)[:, None])


def rounded_to_bytes(constant: Constant) -> Float:
    """What a constant is once matrices and embeddings are bytes with a scale per row."""
    if constant.role not in ("matrix", "embedding"):
        return constant.value
    steps = byte_steps(constant.value).astype(np.float32).astype(np.float64)
    return in_bytes(constant.value) * steps[:, None]
