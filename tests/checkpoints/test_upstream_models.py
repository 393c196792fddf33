"""Whole models against the outputs that upstream's own code recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import s4edge

SMALL = [
    "model_s4d_postnorm",
    "model_s4d_prenorm",
    "model_s4block_diag_postnorm",
    "model_s4block_diag_prenorm",
    "model_dss_exp_postnorm",
    "model_s4block_dplr_postnorm",
    "model_s4block_dplr_prenorm",
]
TRAINED = ["mnist_s4d", "mnist_dss_exp", "mnist_dss_softmax", "spoken_digits_s4d"]


def recorded(path: Path) -> tuple[torch.Tensor, np.ndarray]:
    with np.load(path.with_suffix(".npz")) as content:
        y = content["y"] if "y" in content else content["logits"]
        return torch.from_numpy(content["x"]), y


def relative(difference: np.ndarray, to: np.ndarray) -> float:
    return float(np.abs(difference).max() / np.abs(to).max())


@pytest.mark.parametrize("name", SMALL)
def test_convolution_and_recurrence_give_what_upstream_gave(shared: Path, name: str) -> None:
    path = shared / "checkpoints" / "layers" / f"{name}.pt"
    model = s4edge.load(path)
    x, y = recorded(path)
    with torch.inference_mode():
        assert relative(model(x).numpy() - y, y) < 1e-5
        assert relative(model.stream(x)[:, -1].numpy() - y, y) < 1e-5


@pytest.mark.parametrize("name", TRAINED)
def test_trained_models_give_what_upstream_gave(shared: Path, name: str) -> None:
    path = shared / "checkpoints" / "trained" / f"{name}.pt"
    x, y = recorded(path)
    with torch.inference_mode():
        # Upstream's own float32 logits are off float64 by about this much.
        assert relative(s4edge.load(path)(x).numpy() - y, y) < 2e-5


def test_the_configuration_decides_between_pre_and_post_norm(shared: Path) -> None:
    # Both have the same tensors.
    path = shared / "checkpoints" / "layers" / "model_s4d_prenorm.pt"
    x, y = recorded(path)
    model = s4edge.load(path)
    assert model.provenance.given["prenorm"] is True
    other = s4edge.load(path, {"prenorm": False})
    with torch.inference_mode():
        assert relative(other(x).numpy() - y, y) > 1e-2


def test_softmax_is_refused_for_another_length(shared: Path) -> None:
    model = s4edge.load(shared / "checkpoints" / "trained" / "mnist_dss_softmax.pt")
    assert model.config.length == 784
    with pytest.raises(s4edge.S4EdgeError, match="784"):
        model(torch.zeros(1, 783, 1))
