"""Nodes and constants of an ONNX graph under construction."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from s4edge.model.activations import LAPLACE_DEVIATION, LAPLACE_MEAN

# The lowest opsets that have the operators: 17 brought LayerNormalization, 13 made the sizes of
# Split and the axes of sums inputs. Old runtimes load what is no newer than it has to be.
_OPSET, _OPSET_WITH_NORM = 13, 17
_IR_VERSION = 8


class GraphBuilder:
    """Collects nodes, each output named after what made it.

    Args:
        sample_axes: axes before the features: 1 for (batch, features), 2 for (batch, length,
            features).
        prefix: of the names, to tell a subgraph's from the graph's.
    """

    def __init__(self, sample_axes: int = 1, prefix: str = "") -> None:
        self.sample_axes = sample_axes
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Any, name: str = "constant", dtype: Any = np.float32) -> str:
        """A constant: floats are stored as ``dtype``, integers as int64."""
        array = np.asarray(value)
        if np.issubdtype(array.dtype, np.integer):
            dtype = np.int64
        name = f"{self.prefix}{name}_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array.astype(dtype), name))
        return name

    def add(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """A node with one output; returns the output's name."""
        output = output or f"{self.prefix}{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def split(self, value: str, sizes: list[int], axis: int = -1) -> list[str]:
        """Parts along an axis."""
        if len(sizes) == 1:
            return [value]
        outputs = [f"{self.prefix}split_{len(self.nodes)}_{part}" for part in range(len(sizes))]
        inputs = [value, self.constant(sizes, "sizes")]
        self.nodes.append(helper.make_node("Split", inputs, outputs, axis=axis))
        return outputs

    def concat(self, values: list[str], output: str | None = None, axis: int = -1) -> str:
        """Join along an axis."""
        return self.add("Concat", *values, output=output, axis=axis)

    def rows(self, width: int) -> str:
        """The shape that makes (batch, length, width) one row per sample."""
        return self.constant([-1, width], "rows")

    def linear(self, x: str, weight: Any, bias: Any, output: str | None = None) -> str:
        """``x @ weight.T + bias`` over the last axis of x, weight (out, in)."""
        if self.sample_axes == 1:
            return self.add(
                "Gemm", x, self.constant(weight, "weight"), self.constant(bias, "bias"),
                output=output, transB=1,
            )  # fmt: skip
        product = self.add("MatMul", x, self.constant(np.asarray(weight).T, "weight"))
        return self.add("Add", product, self.constant(bias, "bias"), output=output)

    def activation(self, name: str, x: str, width: int) -> str:
        """An activation of `s4edge.model.configuration` over the last axis of x, ``width`` wide."""
        if name == "identity":
            return x
        if name.startswith("glu"):
            value, gate = self.split(x, [width // 2, width // 2])
            return self.add("Mul", value, self.activation(gate_of(name), gate, width // 2))
        if name == "silu":
            return self.add("Mul", x, self.add("Sigmoid", x))
        if name == "gelu":
            # In the form that onnxruntime fuses into one kernel.
            erf = self.add("Erf", self.add("Div", x, self.constant(np.sqrt(2.0))))
            doubled = self.add("Mul", x, self.add("Add", erf, self.constant(1.0)))
            return self.add("Mul", doubled, self.constant(0.5))
        if name == "sqrelu":
            positive = self.add("Relu", x)
            return self.add("Mul", positive, positive)
        if name == "laplace":
            centred = self.add("Sub", x, self.constant(LAPLACE_MEAN))
            deviation = self.constant(LAPLACE_DEVIATION * np.sqrt(2.0))
            erf = self.add("Erf", self.add("Div", centred, deviation))
            above = self.add("Add", erf, self.constant(1.0))
            return self.add("Mul", above, self.constant(0.5))
        operators = {
            "relu": "Relu", "elu": "Elu", "sigmoid": "Sigmoid", "softplus": "Softplus",
            "tanh": "Tanh",
        }  # fmt: skip
        return self.add(operators[name], x)

    def model(
        self,
        inputs: dict[str, list[str | int]],
        outputs: dict[str, list[str | int]],
        name: str,
    ) -> onnx.ModelProto:
        """The whole model; inputs and outputs are float32 of the given shapes."""

        def values(shapes: dict[str, list[str | int]]) -> list[onnx.ValueInfoProto]:
            return [
                helper.make_tensor_value_info(value, TensorProto.FLOAT, shape)
                for value, shape in shapes.items()
            ]

        graph = helper.make_graph(
            self.nodes, name, values(inputs), values(outputs), initializer=self.constants
        )
        with_norm = any(node.op_type == "LayerNormalization" for node in self.nodes)
        opset = _OPSET_WITH_NORM if with_norm else _OPSET
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=_IR_VERSION,
            producer_name="s4edge",
        )


def gate_of(activation: str) -> str:
    """What a GLU's second half goes through."""
    return activation.removeprefix("glu").lstrip("-") or "sigmoid"
