"""Graphs whose states are float64 within: layers whose weights cancel, as S4-LegS's do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

import s4edge
from s4edge.runtime import Stream, open_graph, predict
from s4edge.systems.cancellation import LARGEST_CANCELLATION, cancellation
from s4edge.systems.modes import Modes

N, H = 12, 3


def legs(folder: Path) -> tuple[Path, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A layer with HiPPO-LegS's own matrix, and its recurrence ``A, B, C, D`` in discrete time."""
    rng = np.random.default_rng(0)
    root = np.sqrt(2 * np.arange(N) + 1)
    A = -np.tril(root[:, None] * root, -1) - np.diag(np.arange(N) + 1)
    C, D, step = rng.standard_normal((H, N)), rng.standard_normal(H), rng.uniform(0.01, 0.1, H)
    state = {
        "layer.D": D[None],
        "layer.kernel.A": np.stack([A, 0 * A], -1)[None],
        "layer.kernel.B": np.stack([root, 0 * root], -1)[None],
        "layer.kernel.C": np.stack([C, 0 * C], -1)[None],
        "layer.kernel.inv_dt": np.log(step)[:, None],
    }
    path = folder / "legs.pt"
    torch.save({name: torch.from_numpy(value) for name, value in state.items()}, path)
    config = {"mode": "real", "activation": None, "final_act": None, "transposed": False}
    sidecar = {"cls": "src.models.sequence.modules.s4block.S4Block", "config": config}
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    below = np.eye(N) - step[:, None, None] * A / 2
    discrete = np.linalg.solve(below, np.eye(N) + step[:, None, None] * A / 2)
    return path, discrete, np.linalg.solve(below, (step[:, None] * root)[..., None])[..., 0], C, D


def recurrence(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, D: np.ndarray, u: np.ndarray
) -> np.ndarray:
    """(length, H) of one sequence (length, H)."""
    state, y = np.zeros((H, N)), np.zeros_like(u)
    for t, sample in enumerate(u):
        state = (A @ state[..., None])[..., 0] + B * sample[:, None]
        y[t] = (C * state).sum(1) + D * sample
    return y


@pytest.mark.parametrize("mode", ["step", "chunk", "sequence"])
def test_a_legs_layer_exports_whole(mode: str, tmp_path: Path) -> None:
    path, *matrices = legs(tmp_path)
    model = s4edge.load(path)
    (block,) = model.blocks
    assert cancellation(block.systems.modes()) > 1e3 * LARGEST_CANCELLATION
    exported = s4edge.export_onnx(model, tmp_path / "legs.onnx", mode)
    u = np.random.default_rng(1).standard_normal((2, 700, H))
    expected = np.stack([recurrence(*matrices, each) for each in u])
    x = u.astype(np.float32)
    graph = open_graph(tmp_path / "legs.onnx")
    if mode == "sequence":
        got = predict(graph, x)
    else:
        stream = Stream(graph, batch=2)
        # What float32 would lose is carried from run to run.
        got = np.concatenate([stream.extend(x[:, :200]), stream.extend(x[:, 200:])], axis=1)
        got = np.concatenate([got, stream.finish()], axis=1)
        assert exported.state_floats == 4 * -(-N // 2) * H
    assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()


def test_other_models_compute_in_float32(tmp_path: Path) -> None:
    modes = Modes.from_rows(np.full((H, 2), -0.1 + 1j), np.ones((H, 2)))
    assert cancellation(modes) < LARGEST_CANCELLATION
    path, *_ = legs(tmp_path)
    model = s4edge.load(path)
    model.blocks[0].systems = type(model.blocks[0].systems).from_modes(
        modes, np.zeros(H), kind="plain", state_size=4, states_per_size=1
    )
    exported = s4edge.export_onnx(model, tmp_path / "plain.onnx")
    graph = onnx.load(tmp_path / "plain.onnx").graph
    assert all(each.data_type != TensorProto.DOUBLE for each in graph.initializer)
    assert exported.state_floats == 2 * 2 * H
