"""Nodes and constants of an ONNX graph under construction, on onnxscript's intermediate form."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from s4edge.export.lowering.program import Constant, Role
from s4edge.model.activations import LAPLACE_DEVIATION, LAPLACE_MEAN

# The lowest opsets that have the operators: 17 brought LayerNormalization, 13 made the sizes of
# Split and the axes of sums inputs. Old runtimes load what is no newer than it has to be.
OPSET, _OPSET_WITH_NORM = 13, 17
_IR_VERSION = 8
# Under which a constant keeps its role while the graph is not written yet.
_ROLE = "role"

Shape = list[str | int]


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
        self.tape = ir.tape.Tape()
        self.constants: list[ir.Value] = []
        self.inputs: list[ir.Value] = []
        self.outputs: list[ir.Value] = []
        self._scaled: dict[tuple[ir.Value, float], ir.Value] = {}

    def input(self, name: str, shape: Shape, dtype: Any = np.float32) -> ir.Value:
        """An input of the graph."""
        kind = ir.DataType.from_numpy(np.dtype(dtype))
        self.inputs.append(ir.val(f"{self.prefix}{name}", kind, shape))
        return self.inputs[-1]

    def output(self, name: str, value: ir.Value, shape: Shape, dtype: Any = np.float32) -> None:
        """Make a value an output of the graph."""
        if value.producer() is None or value in self.outputs:
            value = self.add("Identity", value)
        value.name = f"{self.prefix}{name}"
        value.dtype, value.shape = ir.DataType.from_numpy(np.dtype(dtype)), ir.Shape(shape)
        self.outputs.append(value)

    def constant(
        self, value: Any, name: str = "constant", dtype: Any = np.float32, role: Role = "number"
    ) -> ir.Value:
        """A constant: floats are stored as ``dtype``, integers as int64."""
        array = np.asarray(value)
        if np.issubdtype(array.dtype, np.integer):
            dtype = np.int64
        constant = self.named(array.astype(dtype), f"{name}_{len(self.constants)}")
        constant.meta[_ROLE] = role
        return constant

    def named(self, array: Any, name: str) -> ir.Value:
        """A constant of exactly this name and type."""
        name = f"{self.prefix}{name}"
        # Without a type of its own, which would be written beside that of the tensor.
        value = ir.Value(name=name, const_value=ir.tensor(np.asarray(array), name=name))
        self.constants.append(value)
        return value

    def of_model(self, constant: Constant, name: str = "constant") -> ir.Value:
        """A constant of the model as it is there."""
        return self.constant(constant.value, name, role=constant.role)

    def add(self, op: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        """A node with one output."""
        return self.add_many(op, [f"{op}_{len(self.tape.nodes)}"], *inputs, **attributes)[0]

    def add_many(
        self, op: str, outputs: list[str], *inputs: ir.Value | None, **attributes: Any
    ) -> list[ir.Value]:
        """A node with outputs of these names."""
        values = [ir.Value(name=f"{self.prefix}{name}") for name in outputs]
        self.tape.op_multi_out(op, inputs, dict(sorted(attributes.items())), outputs=values)
        return values

    def split(self, value: ir.Value, sizes: list[int], axis: int = -1) -> list[ir.Value]:
        """Parts along an axis."""
        if len(sizes) == 1:
            return [value]
        outputs = [f"split_{len(self.tape.nodes)}_{part}" for part in range(len(sizes))]
        return self.add_many("Split", outputs, value, self.constant(sizes, "sizes"), axis=axis)

    def concat(self, values: list[ir.Value], axis: int = -1) -> ir.Value:
        """Join along an axis."""
        return self.add("Concat", *values, axis=axis) if len(values) > 1 else values[0]

    def reshape(self, value: ir.Value, shape: list[int], name: str = "shape") -> ir.Value:
        """With -1 for the rest and 0 for what it is."""
        return self.add("Reshape", value, self.constant(shape, name))

    def rows(self, value: ir.Value, width: int) -> ir.Value:
        """(batch, length, width) as one row per sample."""
        return self.reshape(value, [-1, width], "rows")

    def scaled(self, x: ir.Value, by: float) -> ir.Value:
        """``by * x``, made once."""
        if by == 1:
            return x
        if (x, by) not in self._scaled:
            self._scaled[x, by] = self.add("Mul", x, self.constant(by))
        return self._scaled[x, by]

    def linear(self, x: ir.Value, weight: Any, bias: Any) -> ir.Value:
        """``x @ weight.T + bias`` over the last axis of x, weight (out, in)."""
        gemm = self.sample_axes == 1
        weight = np.asarray(weight) if gemm else np.asarray(weight).T
        matrix = self.constant(weight, "weight", role="matrix")
        if gemm:
            return self.add("Gemm", x, matrix, self.constant(bias, "bias", role="bias"), transB=1)
        product = self.add("MatMul", x, matrix)
        return self.add("Add", product, self.constant(bias, "bias", role="bias"))

    def activation(self, name: str, x: ir.Value) -> ir.Value:
        """A function of each feature, by its name in `s4edge.model.activations`."""
        if name == "identity":
            return x
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

    def graph(self, name: str) -> ir.Graph:
        """What was collected."""
        nodes = self.tape.nodes
        with_norm = any(node.op_type == "LayerNormalization" for node in nodes)
        graph = ir.Graph(
            self.inputs,
            self.outputs,
            nodes=nodes,
            initializers=self.constants,
            opset_imports={"": _OPSET_WITH_NORM if with_norm else OPSET},
            name=name,
        )
        without_node_names(graph)
        return graph

    def model(self, name: str) -> ir.Model:
        """The whole model."""
        return ir.Model(self.graph(name), ir_version=_IR_VERSION, producer_name="s4edge")


def without_node_names(graph: ir.Graph) -> None:
    """Those of their outputs say as much; names that a graph gives to its nodes take room."""
    for node in ir.traversal.RecursiveGraphIterator(graph):
        node.name = None


def role_of(constant: ir.Value) -> Role:
    """Of a graph that is not written yet."""
    role: Role = constant.meta.get(_ROLE, "number")
    return role


def array_of(constant: ir.Value) -> NDArray[Any]:
    """The numbers of a constant."""
    assert constant.const_value is not None
    return constant.const_value.numpy()
