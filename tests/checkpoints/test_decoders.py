"""What upstream's sequence decoder does with its outputs, read or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from upstream_by_hand import S4D

import s4edge

WIDTH = 4


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    layer = S4D(WIDTH, 8, seed=0)
    arrays = {f"model.layers.0.layer.{name}": value for name, value in layer.tensors().items()}
    arrays |= {
        "encoder.0.weight": layer.normal(WIDTH, 2),
        "encoder.0.bias": layer.normal(WIDTH),
        "decoder.0.output_transform.weight": layer.normal(3, WIDTH),
        "decoder.0.output_transform.bias": layer.normal(3),
    }
    path = tmp_path / "model.pt"
    tensors = {name: torch.tensor(value, dtype=torch.float32) for name, value in arrays.items()}
    torch.save({"state_dict": tensors}, path)
    return path


@pytest.mark.parametrize(
    ("mode", "l_output", "pooling"),
    [("pool", 0, "mean"), ("sum", 0, "sum"), ("last", 0, "last"), ("last", None, "none")],
)
def test_outputs_are_read(checkpoint: Path, mode: str, l_output: Any, pooling: str) -> None:
    facts = {"residual": "R", "mode": mode, "l_output": l_output}
    assert s4edge.load(checkpoint, facts).config.pooling == pooling


@pytest.mark.parametrize("mode", ["pool", "sum"])
def test_running_poolings_are_refused(checkpoint: Path, mode: str) -> None:
    with pytest.raises(s4edge.S4EdgeError, match="running means or sums"):
        s4edge.load(checkpoint, {"residual": "R", "mode": mode, "l_output": None})


def test_several_outputs_are_refused(checkpoint: Path) -> None:
    with pytest.raises(s4edge.S4EdgeError, match="l_output=5 cannot be read"):
        s4edge.load(checkpoint, {"residual": "R", "mode": "last", "l_output": 5})
