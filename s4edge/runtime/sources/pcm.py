"""Samples as bytes: whole numbers or floats, the channels one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from s4edge.arrays import Samples
from s4edge.runtime.sources.byte_stream import ByteStream
from s4edge.runtime.sources.source import warn_once

# Of one block of a file; a pipe hands over less.
_BLOCK_BYTES = 1 << 16


@dataclass(frozen=True)
class Encoding:
    """How a number is written.

    Attributes:
        bytes: that one number takes.
        code: numpy's name of the type; of 24 bits, None.
        zero: the number that stands for 0.
        full: the number that stands for 1, counted from there.
    """

    bytes: int
    code: str | None
    zero: int = 0
    full: float = 1.0


# By the names that ffmpeg and arecord use.
ENCODINGS = {
    "s16le": Encoding(2, "<i2", full=2.0**15),
    "s8": Encoding(1, "i1", full=2.0**7),
    "u8": Encoding(1, "u1", zero=128, full=2.0**7),
    "s24le": Encoding(3, None, full=2.0**23),
    "s32le": Encoding(4, "<i4", full=2.0**31),
    "f32le": Encoding(4, "<f4"),
    "f64le": Encoding(8, "<f8"),
}


def decode(data: bytes, encoding: Encoding) -> Samples:
    """Numbers as they are written, (count,)."""
    if encoding.code is not None:
        return np.frombuffer(data, encoding.code)
    octets = np.frombuffer(data, np.uint8).reshape(-1, 3).astype(np.int32)
    # The highest goes to the top of 32 bits and back, which carries the sign down.
    return (octets[:, 0] << 8 | octets[:, 1] << 16 | octets[:, 2] << 24) >> 8


def scaled(numbers: Samples, encoding: Encoding) -> Samples:
    """Whole numbers to -1 <= x < 1, exactly; floats as they are."""
    if encoding.full == 1:
        return numbers
    # What has more than 24 bits is rounded to float32 once, later.
    wide = np.float64 if encoding.bytes == 4 else np.float32
    return (numbers.astype(wide) - wide(encoding.zero)) / wide(encoding.full)


def pcm_blocks(
    stream: ByteStream,
    encoding: Encoding,
    width: int,
    limit: int | None,
    as_tokens: bool,
    warnings: list[str],
) -> Iterator[Samples]:
    """Read samples of ``width`` numbers: scaled, or as the whole numbers that tokens are.

    Args:
        stream: at the first sample.
        encoding: of a number.
        width: numbers of one sample.
        limit: bytes to read at most, None for all; fewer are a warning.
        as_tokens: leave numbers as they are written.
        warnings: is told of bytes that are left over or missing.

    Yields:
        (samples, width).
    """
    frame = encoding.bytes * width
    most = max(1, _BLOCK_BYTES // frame) * frame
    rest = b""
    missing = limit
    while missing is None or missing > 0:
        wanted = most - len(rest)
        data = stream.some(wanted if missing is None else min(wanted, missing))
        if not data:
            break
        if missing is not None:
            missing -= len(data)
        data = rest + data
        whole = len(data) // frame * frame
        data, rest = data[:whole], data[whole:]
        if data:
            numbers = decode(data, encoding)
            numbers = numbers if as_tokens else scaled(numbers, encoding)
            yield numbers.reshape(-1, width)
    if missing:
        assert limit is not None
        warn_once(
            warnings,
            f"{stream.name} is cut off: its header promises {limit // frame} samples, "
            f"{(limit - missing) // frame} are there",
        )
    elif rest:
        warn_once(
            warnings,
            f"{stream.name} ends in the middle of a sample: {len(rest)} of {frame} bytes are left "
            "over",
        )
