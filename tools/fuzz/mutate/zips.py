"""Zip archives: members changed, checksums made anew or not, headers that lie, and bytes."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from random import Random

from . import raw

Change = Callable[[Random, str, bytes], bytes]
_NAMES = (
    "", "../x", "/etc/passwd", "x" * 300, "a\\b", "data.pkl", "archive/data.pkl", "version",
    "byteorder", "constants.pkl", "x.npy", "y.npy", "lengths.npy", "arr_0.npy", "é", ".",
)  # fmt: skip


@lru_cache(maxsize=200)
def members(data: bytes) -> Mapping[str, bytes]:
    """Name and content of each member."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(
    content: Sequence[tuple[str, bytes]], random: Random | None = None, lies: float = 0.0
) -> bytes:
    """An archive of members, stored or deflated.

    Args:
        content: names, which may occur twice, and what is under them.
        random: chooses the compression and the lies; without it everything is stored and true.
        lies: how often a header field says something else.
    """

    def said(field: int, bits: int) -> int:
        if random is not None and random.random() < lies:
            field = raw.number(random)
        return field & ((1 << bits) - 1)

    body, directory = bytearray(), bytearray()
    deflated = random is not None and random.random() < 0.1
    for name, data in content:
        packed, method = data, 0
        if deflated:
            engine = zlib.compressobj(1, wbits=-15)
            packed, method = engine.compress(data) + engine.flush(), 8
        encoded = name.encode("utf-8", "replace")
        fields = struct.pack(
            "<HHHHHIIIHH",
            said(20, 16), said(0x800, 16), said(method, 16), 0, 33, said(zlib.crc32(data), 32),
            said(len(packed), 32), said(len(data), 32), len(encoded), 0,
        )  # fmt: skip
        place = said(len(body), 32)
        body += b"PK\3\4" + fields + encoded + packed
        entry = b"PK\1\2" + struct.pack("<H", 20) + fields
        directory += entry + struct.pack("<HHHII", 0, 0, 0, 0, place) + encoded
    count = said(len(content), 16)
    end = struct.pack(
        "<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, said(len(directory), 32),
        said(len(body), 32), 0,
    )  # fmt: skip
    return bytes(body + directory + end)


def mutate(random: Random, data: bytes, others: Sequence[bytes], change: Change) -> bytes:
    """An archive changed within its members, in its list of members, or as bytes."""
    if random.random() < 0.15:
        return raw.mutate(random, data, others)
    content = list(members(data).items())
    do = random.randrange(12)
    index = random.randrange(len(content))
    name, held = content[index]
    lies = 0.0
    if do == 0:
        content[index] = random.choice(_NAMES), held
    elif do == 1:
        del content[index]
    elif do == 2:
        content.append((name, random.choice(content)[1]))
    elif do == 3:
        other = members(random.choice(others))
        content[index] = name, random.choice(list(other.values()))
    elif do == 4:
        content[index] = name, raw.mutate(random, held)
    elif do == 5:
        lies = random.choice((0.02, 0.2))
    elif do == 6 and random.random() < 0.02:
        content[index] = name, bytes(random.choice((1 << 20, 1 << 26)))
        return _deflated(content)
    else:
        for _ in range(random.choice((1, 1, 2))):
            index = random.randrange(len(content))
            name, held = content[index]
            content[index] = name, change(random, name, held)
    packed = pack(content, random, lies)
    return packed if random.random() < 0.95 else raw.mutate(random, packed, others)


def _deflated(content: Sequence[tuple[str, bytes]]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in dict(content).items():
            archive.writestr(name or "none", data)
    return file.getvalue()
