"""Tensors of single layers in upstream's layouts, without upstream's files, and their reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.layer_readers import READERS, read_layer
from s4edge.checkpoints.tensors import Tensors
from s4edge.checkpoints.upstream_layer import UpstreamLayer

H, HALF = 4, 3


def read(
    path: Path, state_dict: dict[str, torch.Tensor], saved: dict[str, Any], d_model: int = 8
) -> UpstreamLayer:
    """As a model reader does it: the one reader that claims the tensors, all of them used."""
    tensors, facts = Tensors(path, state_dict), Facts(path, {}, dict(saved))
    facts.infer("d_model", d_model)
    assert len([reader for reader in READERS if reader.claims(tensors)]) == 1
    _, layer = read_layer(tensors, facts, d_model)
    facts.ignore("length")
    tensors.finish()
    facts.finish()
    return layer


def parts(*shape: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((*shape, 2)))


def as_complex(tensor: torch.Tensor) -> np.ndarray:
    return torch.view_as_complex(tensor).numpy()


def block(rows: int = 1, directions: int = 1, systems: int = H) -> dict[str, torch.Tensor]:
    """A diagonal S4Block, its tensors in float64."""
    rng = np.random.default_rng(1)
    return {
        "layer.D": torch.from_numpy(rng.standard_normal((rows, H))),
        "layer.kernel.inv_dt": torch.from_numpy(rng.uniform(-4, -2, (H, 1))),
        "layer.kernel.A_real": torch.from_numpy(rng.uniform(-1, 1, (systems, HALF))),
        "layer.kernel.A_imag": torch.from_numpy(rng.uniform(0, 9, (systems, HALF))),
        "layer.kernel.B": parts(1, systems, HALF, seed=2),
        "layer.kernel.C": parts(directions * rows, H, HALF, seed=3),
        "output_linear.0.weight": torch.from_numpy(rng.standard_normal((2 * H, rows * H))),
        "output_linear.0.bias": torch.from_numpy(rng.standard_normal(2 * H)),
    }


def read_block(state_dict: dict[str, torch.Tensor], **saved: Any) -> UpstreamLayer:
    return read(Path("layer.pt"), state_dict, saved, H)


def dense_block(A: np.ndarray) -> dict[str, torch.Tensor]:
    n = A.shape[-1]
    state = {name: value for name, value in block().items() if "kernel.A" not in name}
    return state | {
        "layer.kernel.A": torch.view_as_real(torch.from_numpy(A.astype(complex))),
        "layer.kernel.B": parts(1, n, seed=6),
        "layer.kernel.C": parts(1, H, n, seed=7),
    }


def v2_layer(length: int) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(9)
    nodes = torch.view_as_real(
        torch.from_numpy(np.exp(-2j * np.pi * np.arange(length // 2 + 1) / length))
    )
    kernel = {
        "omega": nodes,
        "z": torch.zeros_like(nodes),
        "log_dt": torch.from_numpy(rng.uniform(-4, -2, H)),
        "log_w_real": torch.from_numpy(rng.uniform(-1, 1, (1, HALF))),
        "w_imag": torch.from_numpy(rng.uniform(0, 9, (1, HALF))),
        "P": parts(1, 1, HALF, seed=1),
        "B": parts(1, 1, HALF, seed=2),
        "C": parts(1, H, HALF, seed=3),
    }
    return {
        "D": torch.ones(1, H),
        **{f"kernel.kernel.{name}": value for name, value in kernel.items()},
        "output_linear.weight": torch.eye(H),
        "output_linear.bias": torch.zeros(H),
    }


def v3_layer(rows: int = 1, **without: bool) -> dict[str, torch.Tensor]:
    """A diagonal layer of version 3, in float64; ``output=False`` leaves out its linear layer."""
    rng = np.random.default_rng(10)
    kernel = {
        "log_dt": torch.from_numpy(rng.uniform(-4, -2, H)),
        "inv_A_real": torch.from_numpy(rng.uniform(-1, 1, (H, HALF))),
        "A_imag": torch.from_numpy(rng.uniform(0, 9, (H, HALF))),
        "B": parts(H, HALF, seed=2),
        "C": parts(rows, H, HALF, seed=3),
    }
    state = {"D": torch.from_numpy(rng.standard_normal((rows, H)))}
    state |= {f"kernel.kernel.{name}": value for name, value in kernel.items()}
    if without.get("output", True):
        state["output_linear.weight"] = torch.eye(H)
        state["output_linear.bias"] = torch.zeros(H)
    return state
