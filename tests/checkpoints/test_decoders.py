"""What upstream's sequence decoder does with its outputs, read or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from upstream_by_hand import S4D

import s4edge

Array = np.ndarray
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


def naively(pooled: Array, mode: str, l_output: int | None) -> Array:
    """(batch, length, features) as upstream's SequenceDecoder restricts it."""
    length = pooled.shape[1]
    running = np.cumsum(pooled, axis=1)
    if mode == "pool":
        running = running / np.arange(1, length + 1)[:, None]
    sequence = running if mode in ("pool", "sum") else pooled
    if l_output == 0:
        return sequence[:, 0] if mode == "first" else sequence[:, -1]
    count = length if l_output is None else l_output
    return sequence[:, :count] if mode == "first" else sequence[:, length - count :]


@pytest.mark.parametrize("mode", ["pool", "sum", "last", "first"])
@pytest.mark.parametrize("l_output", [0, 1, 5, None])
def test_answers_are_what_the_decoder_gives(checkpoint: Path, mode: str, l_output: Any) -> None:
    facts = {"residual": "R", "decoder.mode": mode, "l_output": l_output}
    model = s4edge.load(checkpoint, facts).double()
    features = s4edge.load(checkpoint, {"residual": "R", "mode": "last", "l_output": None}).double()
    x = torch.randn(2, 9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        got = model(x).numpy()
        # The decoder is linear, and so are the poolings but for its bias.
        weight, bias = (parameter.numpy() for parameter in features.decoder.parameters())
        features.decoder = torch.nn.Identity()
        inside = features(x).numpy()
        streamed = model.stream(x).numpy()
    wanted = naively(inside, mode, l_output) @ weight.T + bias
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-12)
    if l_output == 0:
        np.testing.assert_allclose(streamed[:, -1], wanted, rtol=1e-7, atol=1e-9)
    else:
        count = 9 if l_output is None else l_output
        held = mode == "first" and count > 1
        part = streamed[:, :count] if held else streamed[:, 9 - count :]
        np.testing.assert_allclose(part, wanted, rtol=1e-7, atol=1e-9)


def test_more_answers_than_samples_are_refused(checkpoint: Path) -> None:
    model = s4edge.load(checkpoint, {"residual": "R", "mode": "pool", "l_output": 12})
    with pytest.raises(s4edge.S4EdgeError, match="gives 12 answers, the sequence has 9 samples"):
        model(torch.zeros(1, 9, 2))


def test_a_number_of_answers_that_is_none_is_refused(checkpoint: Path) -> None:
    with pytest.raises(s4edge.S4EdgeError, match="l_output=-1 cannot be read"):
        s4edge.load(checkpoint, {"residual": "R", "mode": "last", "l_output": -1})


def test_a_word_of_kernels_is_none_of_decoders(checkpoint: Path) -> None:
    asked = r"pools over time is unknown; say it with --set decoder.mode=pool or"
    with pytest.raises(s4edge.S4EdgeError, match=asked):
        s4edge.load(checkpoint, {"residual": "R", "mode": "diag"})


def test_means_that_upstream_divides_by_features_are_refused(checkpoint: Path) -> None:
    """It runs where there are as many answers as features alone, and then transposes its counts."""
    with pytest.raises(s4edge.S4EdgeError, match="divides feature by feature"):
        s4edge.load(checkpoint, {"residual": "R", "mode": "pool", "l_output": WIDTH})
    facts = {"residual": "R", "mode": "pool", "l_output": None}
    with pytest.raises(s4edge.S4EdgeError, match="divides feature by feature"):
        s4edge.load(checkpoint, {**facts, "length": WIDTH})
    (note,) = s4edge.load(checkpoint, facts).provenance.notes
    assert "running means" in note
