"""The sequence graph: whole sequences in, any length; also for models that cannot stream.

Recurrences run inside the graph (Scan), forward or backward in time, so that memory grows with the
length and nothing else. Kernels that are no recurrences, cut or of one length, are convolutions.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from s4edge.export.builder import GraphBuilder
from s4edge.export.parts import after_systems, decode, encode, norm, numbers, read_inputs
from s4edge.export.slots import decay, lay_out, next_states, outputs
from s4edge.model.configuration import Pooling
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems import DiagonalSystems

Float = NDArray[np.float64]


def sequence_graph(model: SequenceModel) -> onnx.ModelProto:
    """Build the sequence graph of a model: ``x`` (batch, length, d_input) to ``y``."""
    config = model.config
    g = GraphBuilder(sample_axes=2)
    x = encode(g, model, "x")
    for index, block in enumerate(model.blocks):
        pre = block.config.norm_placement == "pre"
        u = norm(g, block.config.norm, block.norm, x) if pre else x
        y = _systems(g, block.systems, u, f"block{index}_")
        if block.backward_systems is not None:
            back = _systems(g, block.backward_systems, u, f"block{index}_back_", backward=True)
            y = g.add("Add", y, back)
        x = after_systems(g, block, x, u, y)
        if block.config.stride != 1:
            x = _average(g, x, block.config.stride)
    x = norm(g, config.final_norm, model.norm, x)
    decode(g, model, _pool(g, config.pooling, x))
    width = 1 if config.encoder == "embedding" else config.d_input
    shape: list[str | int] = ["batch", config.d_output]
    if config.pooling == "none":
        strided = any(block.stride != 1 for block in config.blocks)
        shape.insert(1, "length_out" if strided else "length")
    return g.model({"x": ["batch", "length", width]}, {"y": shape}, "s4edge_sequence")


def _systems(
    g: GraphBuilder, systems: DiagonalSystems, u: str, prefix: str, backward: bool = False
) -> str:
    """(batch, length, channels): what the systems of a layer give, with ``D``."""
    config = systems.config
    v = read_inputs(g, config, u)
    terms = []
    if config.feedthrough:
        terms.append(g.add("Mul", v, g.constant(numbers(systems.D), "D")))
    cut = config.kernel_length or (systems.length if sum(config.growing) else None)
    if cut is not None:
        terms.append(_convolution(g, systems.kernel(cut).detach().numpy(), v, backward))
    elif config.real_states:
        terms.append(_scan(g, systems, v, prefix, backward))
    return g.add("Add", *terms) if len(terms) == 2 else terms[0]


def _convolution(g: GraphBuilder, kernel: Float, v: str, backward: bool) -> str:
    """A convolution with the kernels (channels, taps) themselves."""
    channels, taps = kernel.shape
    if backward:
        # The first sample to come is one step away.
        weight, pads = np.hstack([np.zeros((channels, 1)), kernel]), [0, taps]
    else:
        weight, pads = kernel[:, ::-1], [taps - 1, 0]
    by_channel = g.add("Transpose", v, perm=[0, 2, 1])
    y = g.add(
        "Conv", by_channel, g.constant(weight[:, None], "kernel"), group=channels, pads=pads,
        kernel_shape=[weight.shape[1]],
    )  # fmt: skip
    return g.add("Transpose", y, perm=[0, 2, 1])


def _scan(g: GraphBuilder, systems: DiagonalSystems, v: str, prefix: str, backward: bool) -> str:
    """The recurrence over the whole sequence."""
    modes = systems.modes()
    slots = lay_out([modes])
    width, channels = 2 * len(slots.channel), modes.channels
    body = GraphBuilder(prefix=prefix)
    state, sample, new_state, y = (f"{prefix}{name}" for name in ("state", "u", "next", "y"))
    decayed = decay(body, slots, state)
    next_states(body, slots, decayed, sample, output=new_state)
    # Backward, a sample acts from the one before it on; forward, at once.
    body.add("Identity", outputs(body, slots, state if backward else new_state), output=y)

    def value(name: str, size: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])

    graph = helper.make_graph(
        body.nodes,
        f"{prefix}step",
        [value(state, width), value(sample, channels)],
        [value(new_state, width), value(y, channels)],
        initializer=body.constants,
    )
    batch = g.add("Gather", g.add("Shape", v), g.constant([0], "index"), axis=0)
    zeros = g.add("ConstantOfShape", g.add("Concat", batch, g.constant([width], "width"), axis=0))
    names = [f"{prefix}last", f"{prefix}outputs"]
    direction = [int(backward)]
    attributes = {
        "num_scan_inputs": 1,
        "scan_input_axes": [1],
        "scan_output_axes": [1],
        "scan_input_directions": direction,
        "scan_output_directions": direction,
    }
    g.nodes.append(helper.make_node("Scan", [zeros, v], names, body=graph, **attributes))
    return names[1]


def _average(g: GraphBuilder, x: str, stride: int) -> str:
    """Averages of ``stride`` samples each."""
    y = g.add("Transpose", x, perm=[0, 2, 1])
    y = g.add("AveragePool", y, kernel_shape=[stride], strides=[stride])
    return g.add("Transpose", y, perm=[0, 2, 1])


def _pool(g: GraphBuilder, kind: Pooling, x: str) -> str:
    if kind == "mean":
        return g.add("ReduceMean", x, axes=[1], keepdims=0)
    if kind == "sum":
        return g.add("ReduceSum", x, g.constant([1], "axes"), keepdims=0)
    if kind in ("last", "first"):
        index = g.constant(-1 if kind == "last" else 0, "index")
        return g.add("Gather", x, index, axis=1)
    return x
