"""What sources are read for: a graph of one input, described and not there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from s4edge.runtime import Source
from s4edge.runtime.description import GraphInfo

INFO = GraphInfo(
    path=Path("model.onnx"), format=1, mode="step", samples_per_run=1, d_input=1, d_output=2,
    tokens=None, state_floats=4, pooling="mean", length=None, exact_samples=None, source="model.pt",
    state_size=4, version="0.1.0", model_bytes=1000, rate=4000.0,
)  # fmt: skip
TOKENS = dataclasses.replace(INFO, tokens=20, rate=None)


def drain(source: Source) -> int:
    """Read all of it, as a run with ``--normalize`` does."""
    source.peak()
    return sum(len(block) for block in source.read())
