"""Model folders of hubs: ``config.json`` beside weights, and the index of their shards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import s4edge

from .. import seeds
from ..mutate import jsons
from ..reader import Reader

_CONFIGS: tuple[Any, ...] = (
    {"architectures": ["S4"], "torch_dtype": "float32", "d_model": 4, "n_layers": 2,
     "prenorm": False, "dropout": 0.1},
    {"config": {"hidden_size": 4, "num_labels": 3, "prenorm": True}, "id2label": {"0": "a"}},
)  # fmt: skip


@cache
def _configs() -> Sequence[bytes]:
    return [json.dumps(each).encode() for each in _CONFIGS]


@cache
def _indices() -> Sequence[bytes]:
    names = [*seeds.tiny.s4d()]
    whole = dict.fromkeys(names, "part.safetensors")
    return [json.dumps({"metadata": {"total_size": 1}, "weight_map": whole}).encode()]


def _mutate(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return jsons.mutate(random, data, others)


def _weights(name: str) -> Any:
    def prepare(folder: Path) -> None:
        (folder / name).write_bytes(seeds.models()["s4d.safetensors"])

    return prepare


def _read(folder: Path) -> object:
    return s4edge.load(folder)


READERS = (
    Reader("hub", "config.json", _configs, _mutate, _read, 0.4, _weights("model.safetensors")),
    Reader("hub-index", "model.safetensors.index.json", _indices, _mutate, _read, 0.4,
           _weights("part.safetensors")),
)  # fmt: skip
