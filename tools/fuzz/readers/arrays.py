"""Arrays of numpy's, as data sets and as sources of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

from s4edge.data.dataset import load_data
from s4edge.runtime.sources import open_source

from .. import seeds
from ..mutate import raw, zips
from ..reader import Reader
from . import sources

_WORDS = (
    b"'<f4'", b"'|O'", b"'<f8'", b"'>i2'", b"'|b1'", b"'<U9'", b"'<c8'", b"'|V4'", b"'<M8[s]'",
    b"(6, 12, 1)", b"(-1, 3)", b"(1099511627776, 1, 1)", b"(4294967296, 4294967296)", b"()",
    b"(0,)", b"(5,)", b"(True,)", b"(1.5,)", b"True", b"False", b"[('a', '<f4')]", b"'f4,f4'",
    b"(9999999999999999999999,)", b"(6, 12)", b"([[[[[[",
)  # fmt: skip


def _array(random: Random, _: str, data: bytes) -> bytes:
    """An array with a header that says something else, or with other bytes."""
    if random.random() < 0.5 or b"{" not in data[:500] or b"}" not in data[:500]:
        return raw.mutate(random, data)
    start, end = data.index(b"{"), data.rindex(b"}", 0, 500) + 1
    header = data[start:end]
    for _ in range(random.choice((1, 1, 2))):
        parts = header.split(b": ")
        place = random.randrange(1, len(parts)) if len(parts) > 1 else 0
        kept = parts[place].partition(b", '")
        parts[place] = random.choice(_WORDS) + kept[1] + kept[2]
        header = b": ".join(parts)
    header += b"}" if header[-1:] != b"}" else b""
    padding = b" " * (-(10 + len(header) + 1) % 64)
    length = len(header) + len(padding) + 1
    return data[:8] + length.to_bytes(2, "little") + header + padding + b"\n" + data[
        10 + int.from_bytes(data[8:10], "little") :
    ]  # fmt: skip


def _archive(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return zips.mutate(random, data, others, _array)


def _single(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return _array(random, "", data)


def _load(folder: Path) -> object:
    return load_data(folder / "data.npz")


def _stream(name: str) -> object:
    def read(folder: Path) -> object:
        picked = 1 if (folder / name).stat().st_size % 2 else None
        return sources.drain(open_source(folder / name, sources.INFO, index=picked))

    return read


READERS = (
    Reader("npz", "data.npz", seeds.archives, _archive, _load, weight=2),
    Reader("npz-source", "x.npz", seeds.archives, _archive, _stream("x.npz"), weight=1),  # type: ignore[arg-type]
    Reader("npy-source", "x.npy", seeds.arrays, _single, _stream("x.npy"), weight=1),  # type: ignore[arg-type]
)
