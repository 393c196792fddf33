"""Graphs with fewer bits: weights as float16, or dense layers as int8.

Which constants get them goes by what they are to the model (`s4edge.export.lowering.program.Role`).
States, and the poles that act on them again and again, stay float32 in both: a rounding there is
repeated at every sample, one of a weight is made once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from s4edge.arrays import Single
from s4edge.export.onnx.builder import GraphBuilder, array_of, role_of, without_node_names

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")

# Constants of fewer numbers are not worth a node.
_FEWEST_HALVES, _FEWEST_BYTES = 64, 1024
# Where float16 has all its digits.
_HALF_LARGEST, _HALF_SMALLEST = 3e4, 1e-1
# A step less than int8 has: products of unsigned and signed bytes saturate in pairs on x86
# without VNNI instructions.
_INT8_LARGEST = 63


def with_half_weights(model: ir.Model) -> ir.Model:
    """A copy whose constants are float16 but for poles; a runtime widens them when it loads."""
    model, g = model.clone(), GraphBuilder()
    constants: list[ir.Value] = []
    scales: list[ir.Value] = []
    for value in model.graph.initializers.values():
        array = array_of(value)
        if not _is_halved(value, array):
            constants.append(value)
            continue
        name, largest = str(value.name), float(np.abs(array).max())
        # A power of two, so that small weights keep their digits and nothing else is rounded.
        scale = 1.0
        if largest and not _HALF_SMALLEST <= largest <= _HALF_LARGEST:
            scale = 2.0 ** np.floor(np.log2(largest))
        constants.append(g.named((array / scale).astype(np.float16), f"{name}_half"))
        wide = name if scale == 1 else f"{name}_wide"
        (after,) = g.add_many("Cast", [wide], constants[-1], to=ir.DataType.FLOAT)
        if scale != 1:
            scales.append(g.named(np.float32(scale), f"{name}_scale"))
            (after,) = g.add_many("Mul", [name], after, scales[-1])
        ir.convenience.replace_all_uses_with(value, after)
    model.graph.insert_before(model.graph[0], g.tape.nodes)
    return _with_constants(model, [*constants, *scales])


def _is_halved(value: ir.Value, array: NDArray[Any]) -> bool:
    role = role_of(value)
    if array.dtype != np.float32 or array.size < _FEWEST_HALVES or role == "pole":
        return False
    # What is no parameter is right or wrong, and not a little off.
    return role != "number" or bool((array.astype(np.float16) == array).all())


def dense_inputs(model: ir.Model) -> list[str]:
    """The values that dense layers large enough for int8 read."""
    read = (node.inputs[0] for node in model.graph if _is_dense(node))
    return sorted({str(value.name) for value in read if value is not None})


def with_int8_layers(
    model: ir.Model, ranges: Mapping[str, tuple[float, float]] | None = None
) -> ir.Model:
    """A copy whose dense layers multiply bytes, with a scale for each output channel.

    Args:
        model: of `s4edge.export`.
        ranges: of each of `dense_inputs`, least and largest; without, a layer finds those of its
            input at every run.
    """
    model = model.clone()
    quantized: dict[ir.Value, list[ir.Value]] = {}
    added: list[ir.Value] = []
    replaced: set[ir.Value] = set()
    for layer in [each for each in model.graph if _is_dense(each)]:
        g = GraphBuilder()
        x, weight, *bias = [each for each in layer.inputs if each is not None]
        if x not in quantized:
            names = [f"{x.name}_{each}" for each in ("bytes", "scale", "zero")]
            if ranges is None:
                quantized[x] = g.add_many("DynamicQuantizeLinear", names, x)
            else:
                affine = _affine(*ranges[str(x.name)])
                unit = [g.named(*each) for each in zip(affine, names[1:], strict=True)]
                quantized[x] = [*g.add_many("QuantizeLinear", names[:1], x, *unit), *unit]
        values, scale, zero = quantized[x]
        matrix = array_of(weight)
        matrix = matrix.T if layer.op_type == "Gemm" else matrix
        steps = np.maximum(np.abs(matrix).max(axis=0), 1e-30) / _INT8_LARGEST
        out = f"{layer.outputs[0].name}_int8"
        integers = g.named(np.rint(matrix / steps).astype(np.int8), f"{weight.name}_int8")
        factors = g.named(steps.astype(np.float32), f"{weight.name}_steps")
        (y,) = g.add_many("MatMulInteger", [f"{out}_sum"], values, integers, zero)
        (y,) = g.add_many("Cast", [f"{out}_float"], y, to=ir.DataType.FLOAT)
        (unit_of_y,) = g.add_many("Mul", [f"{out}_unit"], scale, factors)
        (y,) = g.add_many("Mul", [f"{out}_y"], y, unit_of_y)
        for each in bias:
            (y,) = g.add_many("Add", [f"{out}_biased"], y, each)
        ir.convenience.replace_nodes_and_values(
            model.graph, layer, [layer], g.tape.nodes, layer.outputs, [y]
        )
        added += g.constants
        replaced.add(weight)
    kept = [value for value in model.graph.initializers.values() if value not in replaced]
    return _with_constants(model, [*kept, *added])


def _is_dense(node: ir.Node) -> bool:
    """Whether it is a dense layer of the model, large enough."""
    if node.op_type not in ("Gemm", "MatMul"):
        return False
    weight = node.inputs[1]
    assert weight is not None
    return role_of(weight) == "matrix" and array_of(weight).size >= _FEWEST_BYTES


def _affine(least: float, largest: float) -> tuple[Single, NDArray[np.uint8]]:
    """Scale and zero of unsigned bytes over a range, which zero belongs to."""
    least, largest = min(least, 0.0), max(largest, 0.0)
    scale = max(largest - least, 1e-30) / 255
    return np.array(scale, np.float32), np.array(np.rint(-least / scale), np.uint8)


def _with_constants(model: ir.Model, constants: list[ir.Value]) -> ir.Model:
    model.graph.initializers.clear()
    for each in constants:
        model.graph.initializers.add(each)
    without_node_names(model.graph)
    return model
