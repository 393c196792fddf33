"""Graphs: opened, streamed, and run over sequences."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random

import numpy as np

from s4edge.runtime import open_graph, predict
from s4edge.runtime.answers import run_stream

from .. import seeds
from ..mutate import jsons, protobuf
from ..reader import Reader


@cache
def _seeds() -> Sequence[bytes]:
    return seeds.named(".onnx")


def _described(random: Random, data: bytes) -> bytes:
    return jsons.mutate(random, data)


def _mutate(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return protobuf.mutate(random, data, others, _described)


def _read(folder: Path) -> object:
    graph = open_graph(folder / "model.onnx")
    info = graph.info
    width = min(info.d_input, 8)
    if info.streams:
        return list(run_stream(graph, [np.zeros((5, width), np.float32)], every=2))
    length = min(info.length or 5, 64)
    return predict(graph, np.zeros((2, length, width), np.float32))


READERS = (Reader("onnx", "model.onnx", _seeds, _mutate, _read, weight=1),)
