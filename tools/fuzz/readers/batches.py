"""What a callable of the person's own gives as data."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from s4edge.data.dataset import load_data

from ..mutate import jsons
from ..reader import Reader

_MODULE = "fuzzed_batches"
_KINDS: tuple[Callable[[Any], Any], ...] = (
    lambda value: value,
    lambda value: np.asarray(value, dtype=object),
    lambda value: np.zeros((2, 3, 1), np.float32),
    lambda value: np.zeros((2, 3), np.int64),
    lambda value: np.zeros(2),
    lambda value: np.full((2, 3, 1), 1e300),
    lambda value: iter([value]),
    lambda value: {"x": value, "y": value},
    lambda value: np.zeros((2, 0, 1)),
    lambda value: np.array(["a"] * 2),
)


def _seeds() -> Sequence[bytes]:
    good = [[[0.0], [1.0], [2.0]], [[1.0], [0.0], [0.5]]]
    return (
        json.dumps([[good, [0, 1]], [good, [1, 1]]]).encode(),
        json.dumps([{"x": good, "y": [0, 1], "lengths": [3, 2]}]).encode(),
    )


def _mutate(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    return json.dumps([jsons.change(random, json.loads(data)), random.getrandbits(16)]).encode()


def _read(folder: Path) -> object:
    tree, number = json.loads((folder / "batches.json").read_bytes())
    random = Random(number)

    def some(value: Any) -> Any:
        if isinstance(value, list) and random.random() < 0.5:
            return [random.choice(_KINDS)(part) for part in value]
        return value

    module = types.ModuleType(_MODULE)
    module.batches = (lambda: map(some, tree)) if number % 7 else tree  # type: ignore[attr-defined]
    sys.modules[_MODULE] = module
    return load_data(f"{_MODULE}:{'batches' if number % 11 else 'others'}")


READERS = (Reader("batches", "batches.json", _seeds, _mutate, _read, weight=0.5),)
