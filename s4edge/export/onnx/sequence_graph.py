"""The sequence graph: whole sequences in, any length; also for models that cannot stream.

A layer's sequence is cut into chunks, all of which are convolved at once; what is left to do one
after another (Scan), forward or backward in time, is to hand the states from chunk to chunk. Memory
grows with the length and nothing else. Kernels that are no recurrences, cut or of one length, are
convolutions.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from s4edge.arrays import Float
from s4edge.export.onnx.builder import GraphBuilder
from s4edge.export.onnx.parts import (
    after_systems,
    decode,
    encode,
    norm,
    numbers,
    read_inputs,
    widened,
)
from s4edge.export.onnx.products import per_channel
from s4edge.export.onnx.slots import Slots, decay, entering, lay_out, leaving, pack, unpack
from s4edge.model.configuration import BlockConfig, ModelConfig
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems import DiagonalSystems

# Samples that are convolved at once.
_CHUNK = 32
# The end of an axis, however long it is.
_END = 2**31 - 1


def sequence_graph(model: SequenceModel, wide: bool = False) -> onnx.ModelProto:
    """Build the sequence graph of a model: ``x`` (batch, length, d_input) to ``y``.

    With ``wide`` its states are float64 within.
    """
    config = model.config
    g = GraphBuilder(sample_axes=2)
    x = encode(g, model, "x")
    for index, block in enumerate(model.blocks):
        pre = block.config.norm_placement == "pre"
        u = norm(g, block.config.norm, block.norm, x) if pre else x
        y = _systems(g, block.systems, u, f"block{index}_", wide)
        if block.backward_systems is not None:
            back = _systems(g, block.backward_systems, u, f"block{index}_back_", wide, True)
            y = g.add("Add", y, back)
        x = after_systems(g, block, x, u, y)
        features = config.block_widths(index)[1]
        if block.config.stride != 1:
            x, features = _downsampled(g, block.config, x, features)
        x = widened(g, block, x, features)
    x = norm(g, config.final_norm, model.norm, x)
    decode(g, model, _pool(g, config, x))
    width = 1 if config.encoder == "embedding" else config.d_input
    shape: list[str | int] = ["batch", config.d_output]
    if config.pooling != "none" and config.answers:
        shape.insert(1, "answers")
    elif config.answers_each_sample:
        strided = any(block.stride != 1 for block in config.blocks)
        shape.insert(1, "length_out" if strided else "length")
    return g.model({"x": ["batch", "length", width]}, {"y": shape}, "s4edge_sequence")


def _systems(
    g: GraphBuilder,
    systems: DiagonalSystems,
    u: str,
    prefix: str,
    wide: bool,
    backward: bool = False,
) -> str:
    """(batch, length, channels): what the systems of a layer give, with ``D``."""
    config = systems.config
    v = read_inputs(g, config, u)
    terms = []
    D = numbers(systems.D)
    if not backward and (config.feedthrough or not config.real_states):
        terms.append(g.add("Mul", v, g.constant(D, "D")))
    # Backward, what is fed through is the sample to come, as the kernel's first tap.
    tap = D if backward else np.zeros_like(D)
    cut = config.kernel_length
    if sum(config.growing):
        # Behind the one length that there is they only grow, out of float32's range.
        cut = min(each for each in (cut, systems.length) if each is not None)
    if cut is not None:
        kernel = systems.kernel(cut).detach().numpy()
        kernel[:, 0] += tap
        terms.append(_convolution(g, kernel, v, backward))
    elif config.real_states:
        terms.append(
            _recurrence(g, lay_out([systems.modes()], wide), systems, v, tap, prefix, backward)
        )
    elif backward:
        terms.append(_convolution(g, tap[:, None], v, backward))
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


def _recurrence(
    g: GraphBuilder,
    slots: Slots,
    systems: DiagonalSystems,
    v: str,
    tap: Float,
    prefix: str,
    backward: bool,
) -> str:
    """What the systems give over whole sequences (batch, length, channels), chunk by chunk.

    ``tap`` (channels,) is added to their kernels' first.
    """
    modes = systems.modes()
    channels = modes.channels
    # Filled up to whole chunks, with zeros that nothing before them hears and nothing after reads.
    length = g.add("Gather", g.add("Shape", v), g.constant([1], "index"), axis=0)
    chunk = g.constant([_CHUNK], "chunk")
    missing = g.add("Mod", g.add("Sub", chunk, g.add("Mod", length, chunk)), chunk)
    zeros = g.constant([0], "zero")
    pads = g.add("Concat", g.constant([0, 0, 0, 0], "pads"), missing, zeros, axis=0)
    filled = g.add("Pad", v, pads)
    chunks = g.add("Reshape", filled, g.constant([-1, _CHUNK, channels], "shape"))

    steps = range(_CHUNK) if backward else range(_CHUNK - 1, -1, -1)
    entered = entering(g, slots, chunks, np.stack([slots.entering(t) for t in steps]), "batched")
    by_chunk = g.add("Concat", g.add("Gather", g.add("Shape", v), zeros, axis=0),
                     g.constant([-1, 2 * slots.count], "shape"), axis=0)  # fmt: skip
    before = _handed_on(g, slots, g.add("Reshape", entered, by_chunk), prefix, backward)
    before = unpack(g, slots, g.add("Reshape", before, g.rows(2 * slots.count)))

    steps = range(_CHUNK - 1, -1, -1) if backward else range(1, _CHUNK + 1)
    from_states = leaving(g, slots, before, np.stack([slots.leaving(t) for t in steps]), "batched")
    kernel = modes.kernel(_CHUNK)
    kernel[:, 0] += tap
    inner = per_channel(g, chunks, _within_chunk(kernel, backward), "batched")
    y = g.add("Reshape", g.add("Add", inner, from_states), g.add("Shape", filled))
    return g.add("Slice", y, zeros, length, g.constant([1], "axis"))


def _within_chunk(kernel: Float, backward: bool) -> Float:
    """(to, from, channels): backward, the first sample to come is one step away."""
    steps = np.arange(_CHUNK)
    lag = steps - steps[:, None] - 1 if backward else steps[:, None] - steps
    taken: Float = np.where(lag >= 0, kernel[:, np.maximum(lag, 0)], 0.0)
    return taken.transpose(1, 2, 0)


def _handed_on(g: GraphBuilder, slots: Slots, entered: str, prefix: str, backward: bool) -> str:
    """(batch, chunks, states) before each chunk, from what each chunk leaves in them."""
    width = 2 * slots.count
    body = GraphBuilder(prefix=prefix)
    state, left, new_state, before = (
        f"{prefix}{name}" for name in ("state", "left", "next", "before")
    )
    decayed = pack(body, slots, decay(body, slots, unpack(body, slots, state), _CHUNK))
    body.add("Add", decayed, left, output=new_state)
    body.add("Identity", state, output=before)

    number = TensorProto.DOUBLE if slots.wide else TensorProto.FLOAT

    def value(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, number, ["batch", width])

    graph = helper.make_graph(
        body.nodes,
        f"{prefix}chunk",
        [value(state), value(left)],
        [value(new_state), value(before)],
        initializer=body.constants,
    )
    batch = g.add("Gather", g.add("Shape", entered), g.constant([0], "index"), axis=0)
    zeros = g.add(
        "ConstantOfShape",
        g.add("Concat", batch, g.constant([width], "width"), axis=0),
        value=helper.make_tensor("zero", number, [1], [0.0]),
    )
    names = [f"{prefix}last", f"{prefix}befores"]
    direction = [int(backward)]
    attributes = {
        "num_scan_inputs": 1,
        "scan_input_axes": [1],
        "scan_output_axes": [1],
        "scan_input_directions": direction,
        "scan_output_directions": direction,
    }
    g.nodes.append(helper.make_node("Scan", [zeros, entered], names, body=graph, **attributes))
    return names[1]


def _downsampled(g: GraphBuilder, config: BlockConfig, x: str, features: int) -> tuple[str, int]:
    """One sample of ``stride`` each, and how wide it is."""
    stride = config.stride
    if config.downsampling == "sample":
        ends = (g.constant([each], "every") for each in (0, _END, 1, stride))
        return g.add("Slice", x, *ends), features
    if config.downsampling == "stack":
        y = g.add("Reshape", x, g.constant([0, -1, stride, features], "shape"))
        y = g.add("Transpose", y, perm=[0, 1, 3, 2])
        return g.add("Reshape", y, g.constant([0, 0, -1], "shape")), features * stride
    y = g.add("Transpose", x, perm=[0, 2, 1])
    y = g.add("AveragePool", y, kernel_shape=[stride], strides=[stride])
    return g.add("Transpose", y, perm=[0, 2, 1]), features


def _pool(g: GraphBuilder, config: ModelConfig, x: str) -> str:
    kind, answers = config.pooling, config.answers
    if kind == "none":
        return x
    if answers != 0:
        x = _running(g, kind, x)
        if answers is None:
            return x
        start, end = (0, answers) if kind == "first" else (-answers, _END)
        return g.add("Slice", x, *(g.constant([each], "answers") for each in (start, end, 1)))
    if kind == "mean":
        return g.add("ReduceMean", x, axes=[1], keepdims=0)
    if kind == "sum":
        return g.add("ReduceSum", x, g.constant([1], "axes"), keepdims=0)
    index = g.constant(-1 if kind == "last" else 0, "index")
    return g.add("Gather", x, index, axis=1)


def _running(g: GraphBuilder, kind: str, x: str) -> str:
    """Means or sums of the samples so far."""
    if kind not in ("mean", "sum"):
        return x
    total = g.add("CumSum", x, g.constant(1, "axis"))
    if kind == "sum":
        return total
    length = g.add("Gather", g.add("Shape", x), g.constant([1], "index"), axis=0)
    ones = g.add("Expand", g.constant([1.0], "one"), length)
    counts = g.add("CumSum", ones, g.constant(0, "axis"))
    return g.add("Div", total, g.add("Unsqueeze", counts, g.constant([1], "axes")))
