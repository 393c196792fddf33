"""Tables as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

from s4edge.runtime.sources import open_source

from .. import seeds
from ..mutate import raw
from ..reader import Reader
from . import sources

_PARTS = (
    b"\0", b"\xff\xfe", b"\xed\xa0\x80", b'"', b'""', b"'", b",", b";", b"\t", b"\r", b"\n", b"#",
    b"nan", b"inf", b"-1e999", b"1_000", b"0x10", b"1,5", b"\xef\xbb\xbf", b"9" * 5000,
    b'"' + b"x" * 200_000 + b'"', b"," * 3000, "é".encode(), "１".encode(), b"\x1a", b" ", b"\x85",
)  # fmt: skip


def _mutate(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    if random.random() < 0.3:
        return raw.mutate(random, data, others)
    changed = bytearray(data * random.choice((1, 1, 1, 50)))
    for _ in range(random.choice((1, 1, 2, 5))):
        place = random.randrange(len(changed) + 1)
        changed[place : place + random.choice((0, 0, 1, 3))] = random.choice(_PARTS)
    return bytes(changed)


def _read(folder: Path) -> object:
    path = folder / "table.csv"
    columns = ("1",) if path.stat().st_size % 2 else None
    return sources.drain(open_source(path, sources.INFO, columns=columns))


READERS = (Reader("csv", "table.csv", seeds.tables, _mutate, _read, weight=2),)
