"""Compressed models: the header, the description in it, and the tensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random

import s4edge

from .. import seeds
from ..mutate import jsons, raw
from ..reader import Reader


@cache
def _seeds() -> Sequence[bytes]:
    return [*seeds.named(".safetensors"), *seeds.upstream(".safetensors", 2)]


def _mutate(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    if random.random() < 0.2:
        return raw.mutate(random, data, others)
    (length,) = struct.unpack("<Q", data[:8])
    header, body = data[8 : 8 + length].decode(), data[8 + length :]
    tree = json.loads(header)
    described = tree.get("__metadata__", {}).get("s4edge")
    do = random.random()
    if described is not None and do < 0.7:
        tree["__metadata__"]["s4edge"] = jsons.text(random, described)
        header = json.dumps(tree)
    elif do < 0.9:
        header = jsons.text(random, header)
    else:
        body = raw.mutate(random, body, others)
    packed = header.encode("utf-8", "replace")
    said = len(packed) if random.random() < 0.97 else raw.number(random) & (1 << 64) - 1
    return struct.pack("<Q", said) + packed + body


def _read(folder: Path) -> object:
    return s4edge.load(folder / "model.safetensors")


READERS = (Reader("safetensors", "model.safetensors", _seeds, _mutate, _read, weight=2),)
