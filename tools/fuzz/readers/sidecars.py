"""Sidecars beside a good checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random

import s4edge

from .. import seeds
from ..mutate import jsons
from ..reader import Reader

_NAMES = ("s4d", "s4block", "exp")


@cache
def _seeds() -> Sequence[bytes]:
    return seeds.sidecars()


def _prepare(folder: Path) -> None:
    for name in _NAMES:
        (folder / f"{name}.pt").write_bytes(seeds.models()[f"{name}.pt"])
    for path in sorted((seeds.SHARED / "layers").glob("*.json"))[::10]:
        if path.stat().st_size < 3000 and path.with_suffix(".pt").exists():
            (folder / path.with_suffix(".pt").name).write_bytes(
                path.with_suffix(".pt").read_bytes()
            )


def _mutate(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return jsons.mutate(random, data, others)


def _read(folder: Path) -> object:
    raw = (folder / "sidecar.json").read_bytes()
    files = sorted(folder.glob("*.pt"))
    path = files[len(raw) % len(files)]
    sidecar = path.with_suffix(".json")
    sidecar.write_bytes(raw)
    try:
        return s4edge.load(path)
    finally:
        sidecar.unlink()


READERS = (Reader("sidecar", "sidecar.json", _seeds, _mutate, _read, 1, _prepare),)
