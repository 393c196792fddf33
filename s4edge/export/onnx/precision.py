"""Graphs with fewer bits: weights as float16, or dense layers as int8.

States, and the poles that act on them again and again, stay float32 in both: a rounding there is
repeated at every sample, one of a weight is made once.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from s4edge.arrays import Single

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")

# Constants of fewer numbers are not worth a node.
_FEWEST_HALVES, _FEWEST_BYTES = 64, 1024
# Where float16 has all its digits.
_HALF_LARGEST, _HALF_SMALLEST = 3e4, 1e-1
# A step less than int8 has: products of unsigned and signed bytes saturate in pairs on x86
# without VNNI instructions.
_INT8_LARGEST = 63


def with_half_weights(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose constants are float16 but for poles; a runtime widens them when it loads."""
    graph = copy.deepcopy(graph)
    nodes: list[onnx.NodeProto] = []
    for tensor in list(graph.graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or tensor.name.startswith(("p_", "q_")):
            continue
        value = numpy_helper.to_array(tensor)
        if value.size < _FEWEST_HALVES:
            continue
        name, largest = tensor.name, float(np.abs(value).max())
        # A power of two, so that small weights keep their digits and nothing else is rounded.
        scale = 1.0
        if largest and not _HALF_SMALLEST <= largest <= _HALF_LARGEST:
            scale = 2.0 ** np.floor(np.log2(largest))
        half = numpy_helper.from_array((value / scale).astype(np.float16), f"{name}_half")
        tensor.CopyFrom(half)
        widened = name if scale == 1 else f"{name}_wide"
        nodes.append(helper.make_node("Cast", [half.name], [widened], to=TensorProto.FLOAT))
        if scale != 1:
            factor = numpy_helper.from_array(np.float32(scale), f"{name}_scale")
            graph.graph.initializer.append(factor)
            nodes.append(helper.make_node("Mul", [widened, factor.name], [name]))
    _replace_nodes(graph, [*nodes, *graph.graph.node])
    return graph


def dense_inputs(graph: onnx.ModelProto) -> list[str]:
    """The values that dense layers large enough for int8 read."""
    return sorted({node.input[0] for node in graph.graph.node if _is_dense(graph, node)})


def with_int8_layers(
    graph: onnx.ModelProto, ranges: Mapping[str, tuple[float, float]] | None = None
) -> onnx.ModelProto:
    """A copy whose dense layers multiply bytes, with a scale for each output channel.

    Args:
        graph: of `s4edge.export`.
        ranges: of each of `dense_inputs`, least and largest; without, a layer finds those of its
            input at every run.
    """
    graph = copy.deepcopy(graph)
    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    quantized: dict[str, tuple[str, str, str]] = {}
    added: list[onnx.TensorProto] = []
    replaced: set[str] = set()

    def constant(value: NDArray[np.generic], name: str) -> str:
        added.append(numpy_helper.from_array(value, name))
        return name

    for node in graph.graph.node:
        if not _is_dense(graph, node):
            nodes.append(node)
            continue
        x, weight_name = node.input[0], node.input[1]
        if x not in quantized:
            quantized[x] = (f"{x}_bytes", f"{x}_scale", f"{x}_zero")
            if ranges is None:
                nodes.append(helper.make_node("DynamicQuantizeLinear", [x], quantized[x]))
            else:
                scale, zero = _affine(*ranges[x])
                names = [constant(scale, quantized[x][1]), constant(zero, quantized[x][2])]
                nodes.append(helper.make_node("QuantizeLinear", [x, *names], [quantized[x][0]]))
        values, scale_name, zero_name = quantized[x]
        matrix = numpy_helper.to_array(weights[weight_name])
        matrix = matrix.T if node.op_type == "Gemm" else matrix
        steps = np.maximum(np.abs(matrix).max(axis=0), 1e-30) / _INT8_LARGEST
        out = f"{node.output[0]}_int8"
        integers = constant(np.rint(matrix / steps).astype(np.int8), f"{weight_name}_int8")
        factors = constant(steps.astype(np.float32), f"{weight_name}_steps")
        replaced.add(weight_name)
        bias = list(node.input[2:])
        nodes += [
            helper.make_node("MatMulInteger", [values, integers, zero_name], [f"{out}_sum"]),
            helper.make_node("Cast", [f"{out}_sum"], [f"{out}_float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [scale_name, factors], [f"{out}_unit"]),
            helper.make_node(
                "Mul", [f"{out}_float", f"{out}_unit"], [f"{out}_y" if bias else node.output[0]]
            ),
        ]
        if bias:
            nodes.append(helper.make_node("Add", [f"{out}_y", *bias], [node.output[0]]))
    kept = [tensor for tensor in graph.graph.initializer if tensor.name not in replaced]
    del graph.graph.initializer[:]
    graph.graph.initializer.extend([*kept, *added])
    _replace_nodes(graph, nodes)
    return graph


def _is_dense(graph: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """Whether it is a dense layer of the model, large enough."""
    if node.op_type not in ("Gemm", "MatMul") or not node.input[1].startswith("weight_"):
        return False
    (weight,) = (each for each in graph.graph.initializer if each.name == node.input[1])
    return int(np.prod(weight.dims)) >= _FEWEST_BYTES


def _affine(least: float, largest: float) -> tuple[Single, NDArray[np.uint8]]:
    """Scale and zero of unsigned bytes over a range, which zero belongs to."""
    least, largest = min(least, 0.0), max(largest, 0.0)
    scale = max(largest - least, 1e-30) / 255
    return np.array(scale, np.float32), np.array(np.rint(-least / scale), np.uint8)


def _replace_nodes(graph: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
