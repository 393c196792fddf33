"""State dicts of upstream's example backbone around small S4D, S4Block and DSS layers.

Made of random numbers by tensor name and shape, so that the tests need no upstream code.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

D_INPUT, D_OUTPUT, D_MODEL, LAYERS = 1, 3, 4, 2
D_STATE = 8  # S4D and S4Block: 4 conjugate pairs. DSS: 8 complex modes.
LENGTH = 12
PAIRS = D_STATE // 2

StateDict = dict[str, Tensor]


def _backbone(layer: StateDict, generator: torch.Generator) -> StateDict:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    state = {
        "encoder.weight": normal(D_MODEL, D_INPUT),
        "encoder.bias": normal(D_MODEL),
        "decoder.weight": normal(D_OUTPUT, D_MODEL),
        "decoder.bias": normal(D_OUTPUT),
    }
    for index in range(LAYERS):
        state |= {f"s4_layers.{index}.{name}": value.clone() for name, value in layer.items()}
        state[f"norms.{index}.weight"] = 1 + 0.1 * normal(D_MODEL)
        state[f"norms.{index}.bias"] = 0.1 * normal(D_MODEL)
    return state


def s4d(seed: int = 0) -> StateDict:
    """Minimal S4D layers."""
    generator = torch.Generator().manual_seed(seed)
    layer = {
        "D": torch.randn(D_MODEL, generator=generator),
        "kernel.C": torch.randn(D_MODEL, PAIRS, 2, generator=generator),
        "kernel.log_dt": torch.linspace(-3, -1, D_MODEL),
        "kernel.log_A_real": torch.full((D_MODEL, PAIRS), math.log(0.5)),
        "kernel.A_imag": (math.pi * torch.arange(PAIRS)).repeat(D_MODEL, 1),
        "output_linear.0.weight": torch.randn(2 * D_MODEL, D_MODEL, 1, generator=generator),
        "output_linear.0.bias": torch.randn(2 * D_MODEL, generator=generator),
    }
    return _backbone(layer, generator)


def s4block(seed: int = 0) -> StateDict:
    """Full S4 layers of mode diag, one system per two channels, GLU output."""
    generator = torch.Generator().manual_seed(seed)
    systems = D_MODEL // 2
    layer = {
        "layer.D": torch.randn(1, D_MODEL, generator=generator),
        "layer.kernel.C": torch.randn(1, D_MODEL, PAIRS, 2, generator=generator),
        "layer.kernel.B": torch.randn(1, systems, PAIRS, 2, generator=generator),
        "layer.kernel.inv_dt": torch.linspace(-3, -1, D_MODEL)[:, None],
        "layer.kernel.A_real": torch.full((systems, PAIRS), math.log(0.5)),
        "layer.kernel.A_imag": (math.pi * (0.5 + torch.arange(PAIRS))).repeat(systems, 1),
        "output_linear.0.weight": torch.randn(2 * D_MODEL, D_MODEL, generator=generator),
        "output_linear.0.bias": torch.randn(2 * D_MODEL, generator=generator),
    }
    return _backbone(layer, generator)


def dss(version: str = "exp", grows: bool = False, seed: int = 0) -> StateDict:
    """DSS layers; ``version`` exp or softmax, of which one mode may grow."""
    generator = torch.Generator().manual_seed(seed)
    imag = math.pi * torch.arange(1, D_STATE + 1)
    layer = {
        "D": torch.randn(1, D_MODEL, generator=generator),
        "kernel.W": torch.randn(1, D_MODEL, D_STATE, 2, generator=generator),
        "kernel.log_dt": torch.linspace(-3, -1, D_MODEL),
        "output_linear.weight": torch.randn(D_MODEL, D_MODEL, generator=generator),
        "output_linear.bias": torch.randn(D_MODEL, 1, generator=generator),
    }
    if version == "exp":
        layer["kernel.Lambda_log_neg_re"] = torch.full((D_STATE,), math.log(0.5))
        layer["kernel.Lambda_im"] = imag
    else:
        real = torch.full((D_STATE,), -0.5)
        real[0] = 0.1 if grows else -0.1
        layer["kernel.Lambda"] = torch.stack([real, imag], dim=-1)
    return _backbone(layer, generator)


def write(path: Path, state: Any, config: dict[str, Any] | None = None) -> Path:
    """Write a state dict as training scripts do, and a sidecar if there is a ``config``."""
    torch.save({"model": state, "epoch": 3}, path)
    if config is not None:
        sidecar = {"cls": "example.S4Model", "config": config}
        path.with_suffix(".json").write_text(json.dumps(sidecar))
    return path
