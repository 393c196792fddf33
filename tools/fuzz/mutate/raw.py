"""Changes to bytes that know nothing of a format."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random

NUMBERS = (
    0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 63, 64, 65, 100, 127, 128, 255, 256, 1000, 1023, 1024, 4095,
    4096, 32767, 32768, 65535, 65536, 10**6, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40,
    2**53, 2**61 - 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, 10**400,
)  # fmt: skip


def number(random: Random) -> int:
    """One that tends to be at the edge of something."""
    value = random.choice(NUMBERS) if random.random() < 0.7 else random.getrandbits(random.choice(
        (3, 8, 16, 32)))  # fmt: skip
    value += random.choice((0, 0, 0, 1, -1))
    return -value if random.random() < 0.15 else value


def _flip(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _overwrite(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    start = random.randrange(len(data))
    length = min(random.choice((1, 2, 4, 8, 40)), len(data) - start)
    data[start : start + length] = random.randbytes(length)


def _put_number(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    code = random.choice(("<B", "<H", "<I", "<Q", ">H", ">I"))
    size = struct.calcsize(code)
    start = random.randrange(max(1, len(data) - size))
    packed = struct.pack(code, number(random) & ((1 << 8 * size) - 1))
    data[start : start + size] = packed


def _cut(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[random.randrange(len(data)) :]


def _drop(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    start = random.randrange(len(data))
    del data[start : start + random.choice((1, 2, 4, 16, 100))]


def _repeat(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    start = random.randrange(len(data))
    part = data[start : start + random.choice((1, 2, 4, 16, 100))]
    data[start:start] = part * random.choice((1, 1, 2, 10))


def _insert(random: Random, data: bytearray, _: Sequence[bytes]) -> None:
    start = random.randrange(len(data))
    data[start:start] = random.randbytes(random.choice((1, 2, 4, 16)))


def _splice(random: Random, data: bytearray, others: Sequence[bytes]) -> None:
    other = random.choice(others)
    if other:
        start = random.randrange(len(other))
        part = other[start : start + random.choice((4, 32, 256))]
        place = random.randrange(len(data))
        data[place : place + random.choice((0, len(part)))] = part


_CHANGES: tuple[Callable[[Random, bytearray, Sequence[bytes]], None], ...] = (
    _flip, _flip, _overwrite, _put_number, _put_number, _cut, _drop, _repeat, _insert, _splice,
)  # fmt: skip


def mutate(random: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Some changes in a row."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        if not changed:
            break
        random.choice(_CHANGES)(random, changed, others or (data,))
    return bytes(changed)
