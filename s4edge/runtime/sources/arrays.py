"""Arrays that numpy wrote, `.npy` and `.npz`, without ever holding one whole."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np

from s4edge.arrays import Samples
from s4edge.data.archives import array_names, open_archive, open_array, read_array, read_header
from s4edge.errors import S4EdgeError
from s4edge.runtime.sources.byte_stream import ByteStream
from s4edge.runtime.sources.source import Begun

_BLOCK_BYTES = 1 << 16


@dataclass(frozen=True)
class Wanted:
    """What a graph takes: ``d_input`` numbers or one token; and which sequence, None for the one.

    ``lengths`` holds the samples that count in each sequence, or is None.
    """

    d_input: int
    tokens: bool
    index: int | None
    lengths: Samples | None = None


def begin_npy(stream: ByteStream, wanted: Wanted) -> Begun:
    """Read the header of an ``.npy`` file; find the sequence.

    Raises:
        S4EdgeError: it is damaged, or holds no sequence that the graph takes.
    """
    shape, fortran, dtype = _read_header(stream)
    row, length = _find(stream.name, shape, dtype, wanted)
    width = 1 if wanted.tokens else wanted.d_input
    if fortran and len(shape) > 1:
        return Begun(_column_by_column(stream, shape, dtype, row, length, width))
    return Begun(_in_order(stream, dtype, row * shape[1] if row else 0, length, width))


def begin_npz(file: IO[bytes], name: str, wanted: Wanted) -> Begun:
    """Open an ``.npz`` file's array ``x``, or its only one, and go on as `begin_npy`."""
    archive = open_archive(file, name)
    arrays = array_names(archive)
    if "x" not in arrays and len(arrays) != 1:
        holds = f"the arrays {', '.join(arrays)[:200]}" if arrays else "no array"
        raise S4EdgeError(f"{name} holds {holds}: expected x, or one array only")
    chosen = "x" if "x" in arrays else arrays[0]
    if "lengths" in arrays and chosen != "lengths":
        lengths = read_array(archive, "lengths", name)
        if lengths.ndim == 1 and lengths.dtype.kind in "iu":
            wanted = replace(wanted, lengths=lengths)
    return begin_npy(ByteStream(open_array(archive, chosen, name), name), wanted)


class _Reader:
    """As much of a file as numpy's readers of headers use."""

    def __init__(self, stream: ByteStream) -> None:
        self.read = stream.exactly


def _read_header(stream: ByteStream) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    reader: Any = _Reader(stream)
    try:
        shape, fortran, dtype = read_header(reader)
        if min(shape, default=0) < 0:
            raise ValueError(f"a shape of {shape}")
    except S4EdgeError:
        raise
    except Exception as error:  # numpy has several kinds for damaged headers
        raise S4EdgeError(f"{stream.name} is no readable .npy file ({_one_line(error)})") from error
    if dtype.kind not in "fiub" or dtype.itemsize > 16:
        raise S4EdgeError(f"{stream.name} holds {dtype}, expected real numbers")
    return shape, fortran, dtype


def _find(
    name: str, shape: Sequence[int], dtype: np.dtype[Any], wanted: Wanted
) -> tuple[int | None, int]:
    """The row that is the sequence, None where the array is one, and the sequence's length."""
    told = f"{name} holds an array of shape {tuple(shape)}"
    if wanted.tokens:
        alone = len(shape) == 1
        several = len(shape) == 2
        kinds = "(length,) or (samples, length) whole tokens"
        if dtype.kind not in "iu":
            raise S4EdgeError(f"{told} of {dtype}; the graph takes {kinds}")
    else:
        d_input = wanted.d_input
        alone = (len(shape) == 1 and d_input == 1) or (len(shape) == 2 and shape[1] == d_input)
        several = (len(shape) == 3 and shape[2] == d_input) or (len(shape) == 2 and d_input == 1)
        several = several and not alone
        kinds = f"(length, {d_input}) or (samples, length, {d_input})"
    if not alone and not several:
        raise S4EdgeError(f"{told}; the graph takes {kinds}")
    if alone:
        if wanted.index is not None:
            raise S4EdgeError(f"{told}, one sequence: there is none to pick with --index")
        return None, shape[0]
    count, length = shape[:2]
    if wanted.index is None and (count != 1 or (len(shape) == 2 and not wanted.tokens)):
        raise S4EdgeError(f"{told}, {count} sequences: pick one with --index 0 to {count - 1}")
    row = wanted.index or 0
    if row >= count:
        raise S4EdgeError(f"{told}, {count} sequences: there is no --index {row}")
    if wanted.lengths is not None:
        if len(wanted.lengths) != count or not 0 <= wanted.lengths[row] <= length:
            raise S4EdgeError(f"{name}: its array lengths does not fit to x of shape {shape}")
        length = int(wanted.lengths[row])
    return row, length


def _in_order(
    stream: ByteStream, dtype: np.dtype[Any], before: int, length: int, width: int
) -> Iterator[Samples]:
    """Samples of an array whose last axis varies fastest, the sequence after ``before`` others."""
    frame = dtype.itemsize * width
    there = stream.skip(before * frame)
    most = max(1, _BLOCK_BYTES // frame)
    while length > 0 and there:
        count = min(most, length)
        data = stream.exactly(count * frame)
        there = len(data) == count * frame
        if len(data) >= frame:
            whole = len(data) // frame * frame
            yield np.frombuffer(data[:whole], dtype).reshape(-1, width)
        length -= len(data) // frame
    if not there:
        raise S4EdgeError(f"{stream.name} is cut off: {length} samples of the array are missing")


def _column_by_column(
    stream: ByteStream,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    row: int | None,
    length: int,
    width: int,
) -> Iterator[Samples]:
    """Samples of an array in Fortran's order, whose numbers lie far apart: mapped, from a copy."""
    needed = math.prod(shape) * dtype.itemsize
    with tempfile.TemporaryFile() as copy:
        try:
            while copy.tell() < needed and (data := stream.some(min(needed, 1 << 20))):
                copy.write(data)
            copy.flush()
        except OSError as error:
            raise S4EdgeError(
                f"cannot copy {stream.name} to {tempfile.gettempdir()}: {error.strerror}; save the "
                "array with numpy.ascontiguousarray"
            ) from error
        if copy.tell() < needed:
            raise S4EdgeError(f"{stream.name} is cut off")
        if not length:
            return
        mapped = np.memmap(copy, dtype, "r", shape=shape, order="F")
        sequence = mapped if row is None else mapped[row]
        most = max(1, _BLOCK_BYTES // (dtype.itemsize * width))
        for start in range(0, length, most):
            part = sequence[start : min(start + most, length)]
            yield np.array(part).reshape(-1, width)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:100]
