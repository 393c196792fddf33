"""A step graph small enough to check by hand: a damped rotation of two states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

D_INPUT, D_OUTPUT = 3, 4

DESCRIPTION: dict[str, Any] = {
    "format": 1,
    "mode": "step",
    "samples_per_run": 1,
    "d_input": D_INPUT,
    "d_output": D_OUTPUT,
    "state_floats": 2,
    "pooling": "none",
    "length": None,
    "exact_samples": None,
    "tokens": None,
    "source": "by hand",
    "state_size": 2,
    "version": "0.1.0",
}


class Rotation:
    """next = state A + x B, y = next C + x D, in float64."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        angle = 0.3
        self.A = 0.97 * np.array(
            [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
        ).astype(np.float32)
        self.B = rng.standard_normal((D_INPUT, 2)).astype(np.float32)
        self.C = rng.standard_normal((2, D_OUTPUT)).astype(np.float32)
        self.D = rng.standard_normal((D_INPUT, D_OUTPUT)).astype(np.float32)

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """(steps, batch, d_input) -> (steps, batch, d_output)."""
        A, B, C, D = (m.astype(np.float64) for m in (self.A, self.B, self.C, self.D))
        state = np.zeros((x.shape[1], 2))
        found = []
        for sample in x.astype(np.float64):
            state = state @ A + sample @ B
            found.append(state @ C + sample @ D)
        return np.stack(found)


def write_model(
    path: Path,
    description: str | None,
    batch: int | str = "batch",
    output_name: str = "y",
) -> Path:
    rotation = Rotation()
    weights = {name: getattr(rotation, name) for name in "ABCD"}
    nodes = [
        helper.make_node("MatMul", ["state", "A"], ["decayed"]),
        helper.make_node("MatMul", ["x", "B"], ["driven"]),
        helper.make_node("Add", ["decayed", "driven"], ["next_state"]),
        helper.make_node("MatMul", ["next_state", "C"], ["seen"]),
        helper.make_node("MatMul", ["x", "D"], ["passed"]),
        helper.make_node("Add", ["seen", "passed"], [output_name]),
    ]

    def port(name: str, width: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, width])

    graph = helper.make_graph(
        nodes,
        "rotation",
        [port("x", D_INPUT), port("state", 2)],
        [port(output_name, D_OUTPUT), port("next_state", 2)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if description is not None:
        helper.set_model_props(model, {"s4edge": description})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


WriteGraph = Callable[..., Path]
