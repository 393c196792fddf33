"""The minimal S4D layer (``models/s4/s4d.py`` of state-spaces/s4)."""

from __future__ import annotations

from typing import Any

import numpy as np

from s4edge.arrays import Complex, Float
from s4edge.checkpoints.discretize import zero_order_hold
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.layout import Layout, numbers
from s4edge.checkpoints.stored_kernels import infer_state_size
from s4edge.checkpoints.tensors import StateDict, Tensors
from s4edge.checkpoints.transforms import invert
from s4edge.checkpoints.upstream_layer import LayerReader, UpstreamLayer
from s4edge.systems.modes import Modes


def _claims(tensors: Tensors) -> bool:
    return "kernel.log_A_real" in tensors


def _read(tensors: Tensors, facts: Facts, d_model: int) -> UpstreamLayer:
    """Zero-order hold of ``A = -exp(log_A_real) + i A_imag``, B = 1, twice the real part."""
    facts.ignore("lr", "dropout", "dt_min", "dt_max", "transposed")
    _, half = tensors.shape("kernel.log_A_real", "d_model", "d_state / 2")
    infer_state_size(facts, half)
    A = -np.exp(tensors.take("kernel.log_A_real", d_model, half)) + 1j * tensors.take(
        "kernel.A_imag", d_model, half
    )
    step = np.exp(tensors.take("kernel.log_dt", d_model))[:, None]
    C = tensors.take_complex("kernel.C", d_model, half)
    log_pole, gain = zero_order_hold(A, step)
    return UpstreamLayer(
        kind="s4d",
        modes=Modes.from_rows(log_pole, 2 * C * gain),
        D=tensors.take("D", d_model),
        state_size=2 * half,
        states_per_size=1,
        activation="gelu",
        mixing_weight=tensors.take("output_linear.0.weight", 2 * d_model, d_model, 1)[..., 0],
        mixing_bias=tensors.take("output_linear.0.bias", 2 * d_model),
        final_activation="glu",
    )


def _layout(tensors: StateDict, known: dict[str, Any]) -> Layout:
    """The minimal S4D layer: ``A = -exp(log_A_real) + i A_imag``."""
    A = -np.exp(numbers(tensors, "kernel.log_A_real")) + 1j * numbers(tensors, "kernel.A_imag")
    step = np.exp(numbers(tensors, "kernel.log_dt"))

    def write(pole: Complex) -> dict[str, Float]:
        real = invert(-pole.real, "exp", "log_A_real")
        return {"kernel.log_A_real": real, "kernel.A_imag": pole.imag}

    steps = np.stack([step, step], axis=1)
    return Layout(A, steps, "kernel.C", False, 0.5, False, write, upper=True)


READER = LayerReader(
    "minimal S4D",
    ("models.s4.s4d.S4D", "src.models.s4.s4d.S4D"),
    _claims,
    _read,
    layout=_layout,
    attributes={"transposed": "transposed"},
)
