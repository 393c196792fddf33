"""A graph that takes whole sequences, on sequences of several lengths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from models_by_hand import random_model

import s4edge
from s4edge import S4EdgeError
from s4edge.runtime import open_graph, predict

LENGTHS = np.array([9, 4, 9, 1, 4])


@pytest.mark.parametrize("pooling", ["mean", "last", "none"])
def test_sequences_of_several_lengths(tmp_path: Path, pooling: str) -> None:
    model = random_model(pooling=pooling)
    s4edge.export_onnx(model, tmp_path / "m.onnx", mode="sequence")
    graph = open_graph(tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal((5, 9, 2)).astype(np.float32)
    if pooling == "none":
        for lengths in (LENGTHS, np.array([9, 9, 9, 9, 8])):
            with pytest.raises(S4EdgeError, match="sequences must be of one length"):
                predict(graph, x, lengths)
        return
    with torch.inference_mode():
        alone = [
            model(torch.from_numpy(row[None, :end]))[0].numpy()
            for row, end in zip(x, LENGTHS, strict=True)
        ]
    np.testing.assert_allclose(predict(graph, x, LENGTHS), alone, atol=1e-5)
