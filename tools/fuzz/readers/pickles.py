"""Pickles as `s4edge.checkpoints.unpickle` follows them, and the plain values that come out."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from pathlib import Path

from s4edge.checkpoints.plain import plain
from s4edge.checkpoints.stored import Storage
from s4edge.checkpoints.unpickle import Unpickler
from s4edge.errors import S4EdgeError

from .. import seeds
from ..mutate import pickles, zips
from ..reader import Reader


@cache
def _seeds() -> Sequence[bytes]:
    files = [*seeds.named(".pt"), *seeds.upstream(".ckpt", 6)]
    found = []
    for file in files:
        if file.startswith(b"PK"):
            found += [data for name, data in zips.members(file).items() if name.endswith(".pkl")]
    found.append(pickle.dumps({"a": {1, 2}, "b": frozenset("x"), "c": b"raw", "d": 1 << 70}, 4))
    return [data for data in found if len(data) < 20_000]


def _storage(described: tuple[object, ...]) -> Storage:
    dtype, key, _, count = described
    return Storage(key, dtype, count)  # type: ignore[arg-type]


def _read(folder: Path) -> object:
    try:
        content = Unpickler(BytesIO((folder / "data.pkl").read_bytes()), _storage).load()
    except pickle.UnpicklingError as error:
        raise S4EdgeError(" ".join(str(error).split())) from error
    return json.dumps(plain(content))


READERS = (Reader("pickle", "data.pkl", _seeds, pickles.mutate, _read, weight=10),)
