"""Families that are refused by name, and Mega's moving averages, which are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import s4edge

RECORDED = Path(__file__).with_name("averages.npz")
CASES = [
    "ema", "ema_bidirectional", "block_ema", "block_ema_channels", "block_ema_bidirectional",
    "block_ema_efficient",
]  # fmt: skip
BLOCK = "layers.0.mixer."


@pytest.mark.parametrize(
    ("names", "family", "instead"),
    [
        (
            ["model.c_layers.0.layer.layer.D", "model.d_layers.0.linear.weight"],
            "a SaShiMi",
            "compress_",
        ),
        (
            [BLOCK + "ssm_k_kernel.kernel.C", BLOCK + "kernel.kernel.inv_A_real"],
            "an H3",
            "compress_",
        ),
        ([BLOCK + "mx_proj.weight", BLOCK + "move.alpha"], "a Mega block", "--set prefix="),
        ([BLOCK + "kernel.0.A_real", BLOCK + "kernel.1.A_real"], "an S4ND", "compress_"),
        ([BLOCK + "A_log", BLOCK + "x_proj.weight"], "a Mamba", "S4, S4D and DSS"),
    ],
)
def test_a_family_that_is_not_read_is_named(
    names: list[str], family: str, instead: str, tmp_path: Path
) -> None:
    torch.save({name: torch.ones(2, 2) for name in names}, tmp_path / "model.pt")
    with pytest.raises(
        s4edge.S4EdgeError, match=f"this is {family}.*: not read because"
    ) as refused:
        s4edge.load(tmp_path / "model.pt")
    assert instead in str(refused.value)


def recorded(name: str) -> tuple[dict[str, torch.Tensor], dict[str, Any], np.ndarray, np.ndarray]:
    """State dict, sidecar, input and output of upstream's own class."""
    with np.load(RECORDED) as content:
        start = f"{name}/state/"
        tensors = {
            key.removeprefix(start): torch.from_numpy(content[key])
            for key in content
            if key.startswith(start)
        }
        sidecar = json.loads(str(content[f"{name}/sidecar"]))
        return tensors, sidecar, content[f"{name}/x"], content[f"{name}/y"]


@pytest.mark.parametrize("name", CASES)
def test_averages_give_what_upstream_gave(name: str, tmp_path: Path) -> None:
    tensors, sidecar, x, y = recorded(name)
    path = tmp_path / "model.pt"
    torch.save(tensors, path)
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    model = s4edge.load(path)
    with torch.inference_mode():
        got = model(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(got, y, atol=1e-5 * np.abs(y).max(), rtol=0)
        assert model.config.streams == (not sidecar["config"].get("bidirectional"))
        if model.config.streams:
            streamed = model.stream(torch.from_numpy(x)).numpy()
            np.testing.assert_allclose(streamed, y, atol=1e-5 * np.abs(y).max(), rtol=0)
    # Real poles only: a state each.
    assert not any(model.config.blocks[0].systems.pairs)


# The layer of Mega's own code and of transformers, by definition

H, N, LENGTH = 3, 4, 15
NAMES = {
    "fairseq": ("alpha", "delta", "beta", "gamma", "omega"),
    "transformers": (
        "damping_factor", "decay_factor", "ema_expansion_matrix", "kernel_projection_matrix",
        "residual_weight",
    ),
}  # fmt: skip


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def averages(numbers: list[np.ndarray], x: np.ndarray, both: bool) -> np.ndarray:
    """``silu`` of the moving averages of ``x`` (length, H), lag by lag; 0 is in both directions."""
    damping, decay, expansion, projection, D = numbers
    p, d = sigmoid(damping[..., 0]), sigmoid(decay[..., 0])
    weight = p * expansion[..., 0] * projection / np.sqrt(N)
    kernel = (weight[..., None] * (1 - p * d)[..., None] ** np.arange(LENGTH)).sum(1)
    y = x * D
    for t in range(LENGTH):
        for s in range(LENGTH):
            if s <= t:
                y[t] += kernel[:H, t - s] * x[s]
            if both and s >= t:
                y[t] += kernel[H:, s - t] * x[s]
    return y * sigmoid(y)


@pytest.mark.parametrize(
    ("code", "facts", "both"),
    [
        ("fairseq", {}, False),
        ("transformers", {}, False),
        ("transformers", {}, True),
        ("fairseq", {"shift": None}, True),
    ],
)
def test_averages_of_other_code(
    code: str, facts: dict[str, Any], both: bool, tmp_path: Path
) -> None:
    numbers = some_numbers(2 if both else 1)
    save(numbers, code, tmp_path / "model.pt")
    x = np.random.default_rng(1).standard_normal((LENGTH, H))
    model = s4edge.load(tmp_path / "model.pt", facts).double()
    with torch.inference_mode():
        got = model(torch.from_numpy(x)[None])[0].numpy()
    np.testing.assert_allclose(got, averages(numbers, x, both), atol=1e-5)
    assert "(length, batch, features)" in model.provenance.notes[0]


def some_numbers(directions: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    rows = directions * H
    shapes = [(rows, N, 1), (rows, N, 1), (rows, N, 1), (rows, N), (H,)]
    return [rng.standard_normal(shape) for shape in shapes]


def save(numbers: list[np.ndarray], code: str, path: Path) -> None:
    tensors = {n: torch.from_numpy(v).float() for n, v in zip(NAMES[code], numbers, strict=True)}
    torch.save(tensors, path)


def test_the_first_value_of_the_backward_kernel(tmp_path: Path) -> None:
    """Dropped, of the next sample or of the present one, as versions of Mega's code differ."""
    numbers = some_numbers(2)
    save(numbers, "fairseq", tmp_path / "model.pt")
    with pytest.raises(s4edge.S4EdgeError, match="--set shift=true or --set shift=false"):
        s4edge.load(tmp_path / "model.pt")
    damping, decay, expansion, projection, _ = (each[H:] for each in numbers)
    p, d = sigmoid(damping[..., 0]), sigmoid(decay[..., 0])
    second = [
        ((p * expansion[..., 0] * projection) / np.sqrt(N) * (1 - p * d) ** k).sum(1)
        for k in (0, 1)
    ]
    for shift, first in ((True, second[1]), (False, second[0]), (None, second[1])):
        model = s4edge.load(tmp_path / "model.pt", {"shift": shift}).double()
        block = model.blocks[0]
        assert block.backward_systems is not None
        kernel = block.backward_systems.kernel(1)[:, 0].detach().numpy()
        np.testing.assert_allclose(kernel, first, atol=1e-6)
        D = block.systems.D.detach().numpy() - numbers[4]
        np.testing.assert_allclose(D, second[0] if shift is None else 0, atol=1e-6)


def test_both_directions_with_a_truncation_are_refused(tmp_path: Path) -> None:
    save(some_numbers(2), "transformers", tmp_path / "model.pt")
    with pytest.raises(s4edge.S4EdgeError, match="bidirectional with truncation=9"):
        s4edge.load(tmp_path / "model.pt", {"truncation": 9})
    one = tmp_path / "one.pt"
    save(some_numbers(1), "fairseq", one)
    assert s4edge.load(one, {"truncation": 9}).config.exact_samples == 9
    for none in (0, -1):
        assert s4edge.load(one, {"truncation": none}).config.exact_samples is None


def test_options_of_other_kernels_do_nothing_beside_averages(tmp_path: Path) -> None:
    """Upstream's published experiments give them all the same."""
    tensors, sidecar, x, y = recorded("block_ema")
    path = tmp_path / "model.pt"
    torch.save(tensors, path)
    unused = {"dt_transform": "softplus", "disc": "bilinear", "real_transform": "relu"}
    sidecar["config"] |= unused
    path.with_suffix(".json").write_text(json.dumps(sidecar))
    with torch.inference_mode():
        got = s4edge.load(path)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(got, y, atol=1e-5 * np.abs(y).max(), rtol=0)
