"""Files of ``torch.save`` down to the tensors by name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random

from s4edge.checkpoints.container import read_container

from .. import seeds
from ..mutate import pickles, raw, zips
from ..reader import Reader


@cache
def _seeds() -> Sequence[bytes]:
    return [*seeds.named(".pt"), *seeds.named(".ckpt"), *seeds.upstream(".ckpt", 3)]


def _member(random: Random, name: str, data: bytes) -> bytes:
    return (pickles if name.endswith(".pkl") else raw).mutate(random, data)


def mutate(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A torch file changed as the archive of a pickle, or as pickles in a row."""
    if not data.startswith(b"PK"):
        return raw.mutate(random, data, others)
    zipped = [other for other in others if other.startswith(b"PK")]
    return zips.mutate(random, data, zipped, _member)


def _read(folder: Path) -> object:
    return read_container(folder / "model.pt")


READERS = (Reader("torch", "model.pt", _seeds, mutate, _read, weight=4),)
