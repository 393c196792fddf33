"""Protocol buffers changed by fields, told apart without a schema."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from . import raw

_DEEPEST = 6
_LONGEST = 1 << 16


@dataclass
class Field:
    """A field: its number and kind, and a number, bytes or fields of its own."""

    number: int
    kind: int
    value: int | bytes | list[Field]


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, place
        if shift > 63:
            raise ValueError


def parse(data: bytes, depth: int = 0) -> list[Field] | None:
    """Fields, those within fields too; None of bytes that are no message."""
    fields, place = [], 0
    try:
        while place < len(data):
            tag, place = _varint(data, place)
            number, kind = tag >> 3, tag & 7
            value: int | bytes | list[Field]
            if not 0 < number < 64:
                return None
            if kind == 0:
                value, place = _varint(data, place)
            elif kind in (1, 5):
                width = 8 if kind == 1 else 4
                value, place = data[place : place + width], place + width
            elif kind == 2:
                length, place = _varint(data, place)
                if length > len(data) - place:
                    return None
                value, place = data[place : place + length], place + length
                may_nest = not value.isascii() or value[:1] in b"\x0a\x12\x08\x1a"
                if may_nest and 2 < length < _LONGEST and depth < _DEEPEST:
                    value = parse(value, depth + 1) or value
            else:
                return None
            fields.append(Field(number, kind, value))
    except (IndexError, ValueError):
        return None
    return fields if place == len(data) else None


def _packed(value: int) -> bytes:
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def write(fields: Sequence[Field], replaced: dict[int, Field | None]) -> bytes:
    """The message of fields; of those named by ``id`` in ``replaced``, what stands for them."""
    parts = []
    for field in fields:
        said = replaced.get(id(field), field)
        if said is None:
            continue
        tag = _packed(said.number << 3 | said.kind)
        if isinstance(said.value, int):
            parts.append(tag + _packed(said.value))
        else:
            # What stands for a field is written as it is: it may hold that field.
            left = replaced if said is field else {}
            inner = said.value if isinstance(said.value, bytes) else write(said.value, left)
            parts.append(tag + (_packed(len(inner)) if said.kind == 2 else b"") + inner)
    return b"".join(parts)


@lru_cache(maxsize=50)
def _tree(data: bytes) -> tuple[list[Field], list[Field]]:
    """Fields as they lie, and all of them in a row."""
    fields = parse(data) or []
    every, waiting = [], list(fields)
    while waiting:
        field = waiting.pop()
        every.append(field)
        if isinstance(field.value, list):
            waiting.extend(field.value)
    return fields, every


def mutate(
    random: Random,
    data: bytes,
    others: Sequence[bytes],
    text: Callable[[Random, bytes], bytes] = raw.mutate,
) -> bytes:
    """A message with some fields changed; ``text`` changes bytes that are a text."""
    if random.random() < 0.15:
        return raw.mutate(random, data, others)
    fields, every = _tree(data)
    replaced: dict[int, Field | None] = {}
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        field = random.choice(every)
        do = random.randrange(8)
        value = field.value
        if do == 0:
            replaced[id(field)] = None
        elif do == 1:
            replaced[id(field)] = random.choice(every)
        elif do == 2:
            lent = _tree(random.choice(others))[1]
            replaced[id(field)] = random.choice(lent)
        elif isinstance(value, int):
            replaced[id(field)] = Field(field.number, 0, raw.number(random))
        elif isinstance(value, bytes) and field.kind == 2:
            changed = text(random, value) if value[:1] == b"{" else raw.mutate(random, value)
            replaced[id(field)] = Field(field.number, 2, changed)
        elif isinstance(value, bytes):
            code = "<d" if field.kind == 1 else "<f"
            number = random.choice((0.0, -1.0, 1e30, float("nan"), float("inf"), 0.5))
            replaced[id(field)] = Field(field.number, field.kind, struct.pack(code, number))
        elif do == 3:
            replaced[id(field)] = Field(random.randrange(1, 30), 2, value)
        else:
            shuffled = list(value)
            random.shuffle(shuffled)
            doubled = shuffled + shuffled[: random.choice((0, 1))]
            replaced[id(field)] = Field(field.number, 2, doubled)
    return write(fields, replaced)
