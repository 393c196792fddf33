"""Nodes for the stages of a program that every kind of graph computes alike.

All of it works over the last axis, so that it serves one sample and a sequence alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import singledispatch
from typing import Any

import numpy as np
import onnx_ir as ir

from s4edge.export.lowering.program import (
    Activation,
    Affine,
    Downsample,
    Embedding,
    Gather,
    Glu,
    LayerNorm,
    Linear,
    Product,
    Stage,
    Standardize,
    WeightedSum,
)
from s4edge.export.onnx.builder import GraphBuilder

Own = Mapping[type, Callable[[Any, ir.Value, Stage], ir.Value]]
"""What a kind of graph computes its own way: by operation, its value from it and what it reads."""


def emit(g: GraphBuilder, stages: Sequence[Stage], values: dict[str, ir.Value], own: Own) -> None:
    """Add the nodes of stages, and the values of these to ``values``."""
    dense: Linear | None = None  # which the next stage gates
    for stage, after in zip(stages, [*stages[1:], None], strict=False):
        operation = stage.operation
        inputs = [values[name] for name in stage.inputs]
        if after is not None and isinstance(after.operation, Glu) and isinstance(operation, Linear):
            dense, values[stage.name] = operation, inputs[0]
            continue
        if isinstance(operation, Glu):
            parts = [stage.width, stage.width]
            halves = _halves(g, dense, *inputs) if dense else g.split(inputs[0], parts)
            value = g.add("Mul", halves[0], g.activation(operation.function, halves[1]))
        elif type(operation) in own:
            value = own[type(operation)](operation, inputs[0], stage)
        else:
            value = _nodes(operation, g, *inputs)
        values[stage.name], dense = value, None


def _halves(g: GraphBuilder, dense: Linear, x: ir.Value) -> list[ir.Value]:
    """Two products instead of one and a split, which would take longer."""
    weight, bias = dense.weight.value, dense.bias.value
    half = len(bias) // 2
    return [g.linear(x, weight[part], bias[part]) for part in (slice(half), slice(half, None))]


def joined(g: GraphBuilder, downsample: Downsample, x: ir.Value, width: int) -> ir.Value:
    """(batch, samples, features), or rows of whole windows, to windows of ``width`` side by side.

    Returns:
        (windows, 1 or features, features or stride): `GraphBuilder.rows` makes rows of it.
    """
    stride = downsample.stride
    features = width // stride if downsample.kind == "stack" else width
    windows = g.reshape(x, [-1, stride, features])
    if downsample.kind == "stack":
        return g.add("Transpose", windows, perm=[0, 2, 1])
    if downsample.kind == "sample":
        return g.add("Gather", windows, g.constant([0], "first"), axis=1)
    # A product: many times quicker than ReduceMean.
    return g.add("MatMul", g.constant(np.full((1, stride), 1 / stride), "mean"), windows)


@singledispatch
def _nodes(operation: Any, g: GraphBuilder, *inputs: ir.Value) -> ir.Value:
    """The value of an operation."""
    raise AssertionError(f"no graph is written of {operation}")


@_nodes.register
def _(embedding: Embedding, g: GraphBuilder, x: ir.Value) -> ir.Value:
    # Tokens come as floats, (..., 1).
    token = g.add("Squeeze", g.add("Cast", x, to=ir.DataType.INT64), g.constant([-1], "axes"))
    return g.add("Gather", g.of_model(embedding.table, "table"), token, axis=0)


@_nodes.register
def _(layer: Linear, g: GraphBuilder, x: ir.Value) -> ir.Value:
    return g.linear(x, layer.weight.value, layer.bias.value)


@_nodes.register
def _(norm: LayerNorm, g: GraphBuilder, x: ir.Value) -> ir.Value:
    scale, shift = g.of_model(norm.scale), g.of_model(norm.shift)
    return g.add("LayerNormalization", x, scale, shift, axis=-1, epsilon=norm.epsilon)


@_nodes.register
def _(norm: Standardize, g: GraphBuilder, x: ir.Value) -> ir.Value:
    centred = g.add("Sub", x, g.add("ReduceMean", x, axes=[-1], keepdims=1))
    power = g.add("ReduceMean", g.add("Mul", centred, centred), axes=[-1], keepdims=1)
    shifted = g.add("Add", centred, g.of_model(norm.shift))
    return g.add("Mul", g.add("Div", shifted, g.add("Sqrt", power)), g.of_model(norm.scale))


@_nodes.register
def _(norm: Affine, g: GraphBuilder, x: ir.Value) -> ir.Value:
    scale = g.of_model(norm.scale)
    shift = None if norm.shift is None else g.of_model(norm.shift)
    scaled = g.add("Mul", x, scale)
    return scaled if shift is None else g.add("Add", scaled, shift)


@_nodes.register
def _(gather: Gather, g: GraphBuilder, x: ir.Value) -> ir.Value:
    return g.add("Gather", x, g.constant(np.array(gather.indices), "inputs"), axis=-1)


@_nodes.register
def _(activation: Activation, g: GraphBuilder, x: ir.Value) -> ir.Value:
    return g.activation(activation.function, x)


@_nodes.register
def _(product: Product, g: GraphBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return g.add("Mul", x, y)


@_nodes.register
def _(total: WeightedSum, g: GraphBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    of_x, of_y = total.weights
    if of_x < 0:
        return g.add("Sub", g.scaled(y, of_y), g.scaled(x, -of_x))
    return g.add("Add", g.scaled(x, of_x), g.scaled(y, of_y))
