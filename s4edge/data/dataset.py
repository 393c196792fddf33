"""Data for evaluation, calibration and training. Needs numpy only, so that a board can read it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s4edge.arrays import Int, Single
from s4edge.data.archives import array_names, open_archive, read_array, unreadable
from s4edge.errors import S4EdgeError

Array = NDArray[Any]


@dataclass(frozen=True)
class Data:
    """Sequences with labels or targets.

    Attributes:
        x: (samples, length, d_input) float32, or (samples, length) int64 tokens.
        y: (samples,) or (samples, length) integer labels, or targets as floats with a last axis of
            d_output; None where the source has none.
        lengths: (samples,) samples that count in each sequence, or None where all do.
        source: where it came from, for messages.
    """

    x: Single | Int
    y: Array | None
    lengths: Int | None
    source: str

    def __len__(self) -> int:
        return len(self.x)

    def batches(self, size: int) -> Iterator[Data]:
        """Consecutive parts of at most ``size`` sequences."""
        for start in range(0, len(self), size):
            yield self.part(slice(start, start + size))

    def part(self, rows: slice | Int) -> Data:
        """Some of the sequences."""
        return Data(
            self.x[rows],
            None if self.y is None else self.y[rows],
            None if self.lengths is None else self.lengths[rows],
            self.source,
        )


def load_data(source: str | Path) -> Data:
    """Read an ``.npz`` file, or call ``package.module:callable`` for an iterable of batches.

    The file holds ``x`` (samples, length, d_input), ``y`` and optionally ``lengths``; a batch is
    ``(x, y)`` or ``(x, y, lengths)`` or a dictionary with these keys.

    Raises:
        S4EdgeError: it does not exist, cannot be read, or its arrays do not fit together.
    """
    source = str(source)
    path = Path(source)
    if ":" in source and not os.path.exists(path) and not source.endswith(".npz"):
        return _from_callable(source)
    if not os.path.exists(path):
        raise S4EdgeError(f"the data {source} does not exist")
    if not os.path.isfile(path):
        raise S4EdgeError(f"{source} is no readable .npz file (it is a folder, device or pipe)")
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise unreadable(source, error) from error
    with file:
        start = file.read(6)
        if start == b"\x93NUMPY":
            raise S4EdgeError(
                f"{source} holds one array without a name, expected 'x' and 'y' as numpy.savez "
                "writes them"
            )
        if not start.startswith(b"PK"):
            raise S4EdgeError(f"{source} is no readable .npz file (it does not begin like one)")
        archive = open_archive(file, source)
        there = array_names(archive)
        x, y, lengths = (
            read_array(archive, name, source) if name in there else None
            for name in ("x", "y", "lengths")
        )
    return check(x, y, lengths, source)


def _from_callable(source: str) -> Data:
    module_name, _, name = source.partition(":")
    # As `python -m` does: modules of the current folder can be named.
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        function = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise S4EdgeError(f"the data {source} cannot be found: {_one_line(error)}") from error
    except Exception as error:  # whatever the module does
        raise _failed(source, error) from error
    try:
        parts = [_columns(batch) for batch in function()]
        if not parts:
            raise S4EdgeError(f"the data {source} gave no batch")
        x, y, lengths = (_joined(column) for column in zip(*parts))
    except S4EdgeError:
        raise
    except Exception as error:  # whatever the user's code does
        raise _failed(source, error) from error
    return check(x, y, lengths, source)


def _columns(batch: Any) -> list[Array | None]:
    """``x``, ``y`` and ``lengths`` of a batch, None where it has none."""
    if isinstance(batch, Mapping):
        batch = [batch.get(name) for name in ("x", "y", "lengths")]
    if not isinstance(batch, (tuple, list)) or not 1 <= len(batch) <= 3:
        raise TypeError("a batch must be (x, y), (x, y, lengths) or a dictionary of these")
    columns = [None if part is None else np.asarray(part) for part in batch]
    return [*columns, None, None][:3]


def _joined(column: tuple[Array | None, ...]) -> Array | None:
    arrays = [part for part in column if part is not None]
    if arrays and len(arrays) < len(column):
        raise ValueError("some batches have y or lengths, others have not")
    return np.concatenate(arrays) if arrays else None


def _failed(source: str, error: Exception) -> S4EdgeError:
    return S4EdgeError(f"the data {source} failed: {type(error).__name__}: {_one_line(error)}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def check(x: Array | None, y: Array | None, lengths: Array | None, source: str) -> Data:
    """Put arrays into `Data`.

    Raises:
        S4EdgeError: they do not fit together or are no numbers, or ``x`` holds NaN or infinity.
    """
    if x is None:
        raise S4EdgeError(f"{source} holds no array 'x'")
    tokens = x.ndim == 2 and x.dtype.kind in "iu"
    if (x.ndim != 3 and not tokens) or 0 in x.shape:
        raise S4EdgeError(
            f"{source}: x has shape {x.shape} of {x.dtype}, expected (samples, length, d_input), "
            "or (samples, length) integer tokens"
        )
    for name, array, kinds in (("x", x, "fiub"), ("y", y, "fiu")):
        if array is not None and array.dtype.kind not in kinds:
            raise S4EdgeError(f"{source}: {name} holds {array.dtype}, expected real numbers")
    with np.errstate(over="ignore"):
        x = x.astype(np.int64 if tokens else np.float32, copy=False)
    if not np.isfinite(x).all():
        raise S4EdgeError(f"{source}: x holds NaN or infinite values")
    for name, array in (("y", y), ("lengths", lengths)):
        if array is not None and (array.ndim == 0 or len(array) != len(x)):
            raise S4EdgeError(f"{source}: {name} has shape {array.shape} for {len(x)} samples in x")
    if lengths is not None:
        whole = np.issubdtype(lengths.dtype, np.integer) and lengths.ndim == 1
        if not whole or lengths.min() < 1 or lengths.max() > x.shape[1]:
            raise S4EdgeError(f"{source}: lengths must be whole numbers from 1 to {x.shape[1]}")
        lengths = lengths.astype(np.int64)
    return Data(x, y, lengths, source)
