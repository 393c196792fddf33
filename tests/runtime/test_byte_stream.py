"""Bytes from a pipe that hands them over in pieces."""

from __future__ import annotations

import io

import pytest

from s4edge.runtime.sources.byte_stream import ByteStream

CONTENT = bytes(range(20))


class Pieces(io.BytesIO):
    """Hands over a few bytes at a time, as pipes do."""

    def __init__(self, at_once: int) -> None:
        super().__init__(CONTENT)
        self.at_once = at_once

    def read1(self, size: int | None = -1, /) -> bytes:
        return self.read(min(size or 0, self.at_once))


@pytest.mark.parametrize("at_once", [1, 3, 19, 50])
def test_so_many_bytes_whatever_the_pieces(at_once: int) -> None:
    stream = ByteStream(Pieces(at_once), "a pipe")
    assert stream.peek(2) == CONTENT[:2]
    assert stream.exactly(1) == CONTENT[:1]
    assert stream.exactly(0) == b""
    assert stream.exactly(4) == CONTENT[1:5]
    assert stream.skip(7)
    assert stream.peek(1) == CONTENT[12:13]
    some = stream.some(99)
    assert some
    assert some + stream.exactly(99) == CONTENT[12:]
    assert (stream.exactly(1), stream.some(1), stream.skip(1)) == (b"", b"", False)
