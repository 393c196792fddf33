"""Graphs of a fixed number of sequences, for converters that know sizes and plain operators only.

Small converters (to C, to the format of a microcontroller or of an accelerator) refuse a size that
has a name, one that is found while the graph runs, and operators that only large runtimes have.
Here every size is a number, written beside each value; what changes nothing but a shape is a
Reshape to numbers; two halves change places by Split and Concat, since pnnx takes a Gather for one
of them; a layer norm is its parts, which opset 13 has and onnxruntime joins again.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx
import onnx_ir as ir

from s4edge.export.onnx.builder import OPSET, GraphBuilder, without_node_names

Shapes = dict[str, tuple[int, ...]]


def with_fixed_batch(model: ir.Model, batch: int) -> ir.Model:
    """A step or chunk graph that takes ``batch`` sequences side by side, no more and no fewer.

    Args:
        model: the graph that takes any number; it is changed.
        batch: sequences, at least 1.
    """
    graph = model.graph
    for port in (*graph.inputs, *graph.outputs):
        assert port.shape is not None
        port.shape = ir.Shape([batch, *list(port.shape)[1:]])
    _replace(graph, [node for node in graph if node.op_type == "LayerNormalization"], _norm)
    _replace(graph, [node for node in graph if _turns(node)], _turned)
    graph.opset_imports[""] = OPSET
    proto = onnx.shape_inference.infer_shapes(ir.to_proto(model), strict_mode=True, data_prop=True)
    ports = (*proto.graph.value_info, *proto.graph.input, *proto.graph.output)
    types = {port.name: port.type.tensor_type for port in ports}
    shapes = {
        name: tuple(size.dim_value for size in each.shape.dim) for name, each in types.items()
    }
    reshaping = [node for node in graph if node.op_type in ("Reshape", "Squeeze", "Unsqueeze")]
    _replace(graph, reshaping, lambda g, node: _reshaped(g, node, shapes))
    used = {value for node in graph for value in node.inputs}
    for name, value in list(graph.initializers.items()):
        if value not in used:
            del graph.initializers[name]
    for node in graph:
        for value in node.outputs:
            found = types.get(str(value.name))
            if found is not None:
                value.dtype = ir.DataType(found.elem_type)
                value.shape = ir.Shape(shapes[str(value.name)])
    without_node_names(graph)
    return model


def _replace(
    graph: ir.Graph, nodes: list[ir.Node], write: Callable[[GraphBuilder, ir.Node], ir.Value]
) -> None:
    """Write nodes anew."""
    for node in nodes:
        (out,) = node.outputs
        g = GraphBuilder(prefix=f"{out.name}_")
        value = write(g, node)
        if g.tape.nodes:
            ir.convenience.replace_nodes_and_values(
                graph, node, [node], g.tape.nodes, [out], [value]
            )
        else:
            ir.convenience.replace_all_uses_with(out, value)
            graph.remove(node, safe=True)
        for constant in g.constants:
            graph.initializers.add(constant)


def _norm(g: GraphBuilder, node: ir.Node) -> ir.Value:
    """A layer norm over the last axis, in the form that onnxruntime joins to one kernel."""
    x, scale, shift = node.inputs
    assert x is not None and scale is not None and shift is not None  # noqa: PT018
    centred = g.add("Sub", x, g.add("ReduceMean", x, axes=[-1], keepdims=1))
    square = g.add("Pow", centred, g.constant(2.0, "two"))
    variance = g.add("ReduceMean", square, axes=[-1], keepdims=1)
    epsilon = g.constant(node.attributes["epsilon"].as_float(), "epsilon")
    deviation = g.add("Sqrt", g.add("Add", variance, epsilon))
    return g.add("Add", g.add("Mul", g.add("Div", centred, deviation), scale), shift)


def _turns(node: ir.Node) -> bool:
    """Whether it makes two halves change places."""
    if node.op_type != "Gather" or node.inputs[1] is None:
        return False
    indices = node.inputs[1].const_value
    return indices is not None and indices.numpy().tolist() == [1, 0]


def _turned(g: GraphBuilder, node: ir.Node) -> ir.Value:
    x, axis = node.inputs[0], node.attributes["axis"].as_int()
    assert x is not None
    return g.concat(g.split(x, [1, 1], axis)[::-1], axis)


def _reshaped(g: GraphBuilder, node: ir.Node, shapes: Shapes) -> ir.Value:
    """What a node makes of its first input, as a Reshape to numbers."""
    x, (out,) = node.inputs[0], node.outputs
    assert x is not None
    shape = shapes[str(out.name)]
    if shapes[str(x.name)] == shape and not out.is_graph_output():
        return x
    return g.reshape(x, list(shape))
