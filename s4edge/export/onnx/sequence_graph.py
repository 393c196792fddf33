"""The sequence graph: whole sequences in, any length; also for models that cannot stream.

A layer's sequence is cut into chunks, all of which are convolved at once; what is left to do one
after another (Scan), forward or backward in time, is to hand the states from chunk to chunk. Memory
grows with the length and nothing else. Kernels that are no recurrences, cut or of one length, are
convolutions.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from s4edge.arrays import Float
from s4edge.export.lowering.program import (
    Convolution,
    Downsample,
    Hold,
    NormOverTime,
    PoolSequence,
    Program,
    Recurrence,
    Stage,
)
from s4edge.export.onnx.builder import GraphBuilder, Shape
from s4edge.export.onnx.products import per_channel
from s4edge.export.onnx.slots import Slots, decay, entering, lay_out, leaving, pack, unpack
from s4edge.export.onnx.stages import Own, emit

# Samples that are convolved at once.
_CHUNK = 32
# The end of an axis, however long it is.
_END = 2**31 - 1


def sequence_graph(program: Program, wide: bool = False) -> ir.Model:
    """Build the sequence graph of a model: ``x`` (batch, length, d_input) to ``y``.

    With ``wide`` its states are float64 within.
    """
    g = GraphBuilder(sample_axes=2)

    values = {"x": g.input("x", ["batch", "length", program.d_input])}
    own: Own = {
        Recurrence: lambda systems, x, stage: _systems(g, systems, x, stage, wide),
        Convolution: lambda convolution, x, stage: _convolution(g, convolution, x),
        NormOverTime: lambda norm, x, stage: _norm(g, norm, x),
        Downsample: lambda downsample, x, stage: _downsample(g, downsample, x, stage.width),
        PoolSequence: lambda pooling, x, stage: _pool(g, pooling, x),
        Hold: lambda hold, y, stage: _hold(g, hold, y, values["x"]),
    }
    emit(g, program.stages, values, own)
    g.output("y", values[program.output], ["batch", *_samples_out(program), program.d_output])
    return g.model("s4edge_sequence")


def _samples_out(program: Program) -> Shape:
    operations = [stage.operation for stage in program.stages]
    answers = [each.answers for each in operations if isinstance(each, PoolSequence)]
    if answers and answers[-1] is not None:
        return ["answers"] if answers[-1] else []
    return ["length" if program.periods[program.output] == 1 else "length_out"]


def _systems(
    g: GraphBuilder, systems: Recurrence, u: ir.Value, stage: Stage, wide: bool
) -> ir.Value:
    D, terms = systems.feedthrough, []
    if D.value.any() or not len(systems.modes.channel):
        terms.append(g.add("Mul", _to_come(g, u) if systems.backward else u, g.of_model(D, "D")))
    if len(systems.modes.channel):
        terms.append(_recurrence(g, systems, u, _prefix(stage), wide))
    return _sum(g, terms)


def _prefix(stage: Stage) -> str:
    """Of names in a recurrence's loop."""
    own = stage.name.removeprefix(f"{stage.part}.")
    short = {"systems": "_", "backward_systems": "_back_"}.get(own, f"_{own}_")
    return stage.part.replace("blocks.", "block") + short


def _to_come(g: GraphBuilder, u: ir.Value) -> ir.Value:
    """The next sample, which is what backward systems feed through; after the last, zeros."""
    later = g.add("Slice", u, *(g.constant([each], "later") for each in (1, _END, 1)))
    return g.add("Pad", later, g.constant([0, 0, 0, 0, 1, 0], "pads"))


def _sum(g: GraphBuilder, terms: list[ir.Value]) -> ir.Value:
    return g.add("Add", *terms) if len(terms) == 2 else terms[0]


def _convolution(g: GraphBuilder, convolution: Convolution, x: ir.Value) -> ir.Value:
    terms = []
    if convolution.feedthrough is not None:
        terms.append(g.add("Mul", x, g.of_model(convolution.feedthrough, "D")))
    kernel = convolution.kernel.value
    channels, taps = kernel.shape
    if convolution.backward:
        # The first sample to come is one step away.
        weight, pads = np.hstack([np.zeros((channels, 1)), kernel]), [0, taps]
    else:
        weight, pads = kernel[:, ::-1], [taps - 1, 0]
    by_channel = g.add("Transpose", x, perm=[0, 2, 1])
    y = g.add(
        "Conv", by_channel, g.constant(weight[:, None], "kernel", role="kernel"), group=channels,
        pads=pads, kernel_shape=[weight.shape[1]],
    )  # fmt: skip
    return _sum(g, [*terms, g.add("Transpose", y, perm=[0, 2, 1])])


def _recurrence(
    g: GraphBuilder, systems: Recurrence, v: ir.Value, prefix: str, wide: bool
) -> ir.Value:
    """What systems' states give over whole sequences (batch, length, channels), chunk by chunk."""
    slots, backward = lay_out([systems.modes], wide), systems.backward
    channels = systems.modes.channels
    # Filled up to whole chunks, with zeros that nothing before them hears and nothing after reads.
    length = g.add("Gather", g.add("Shape", v), g.constant([1], "index"), axis=0)
    chunk = g.constant([_CHUNK], "chunk")
    missing = g.add("Mod", g.add("Sub", chunk, g.add("Mod", length, chunk)), chunk)
    zeros = g.constant([0], "zero")
    pads = g.add("Concat", g.constant([0, 0, 0, 0], "pads"), missing, zeros, axis=0)
    filled = g.add("Pad", v, pads)
    chunks = g.reshape(filled, [-1, _CHUNK, channels])

    steps = range(_CHUNK) if backward else range(_CHUNK - 1, -1, -1)
    entered = entering(g, slots, chunks, np.stack([slots.entering(t) for t in steps]), "batched")
    by_chunk = g.add("Concat", g.add("Gather", g.add("Shape", v), zeros, axis=0),
                     g.constant([-1, 2 * slots.count], "shape"), axis=0)  # fmt: skip
    before = _handed_on(g, slots, g.add("Reshape", entered, by_chunk), prefix, backward)
    before = unpack(g, slots, g.rows(before, 2 * slots.count))

    steps = range(_CHUNK - 1, -1, -1) if backward else range(1, _CHUNK + 1)
    from_states = leaving(g, slots, before, np.stack([slots.leaving(t) for t in steps]), "batched")
    kernel = systems.modes.kernel(_CHUNK)
    inner = per_channel(g, chunks, _within_chunk(kernel, backward), "batched")
    y = g.add("Reshape", g.add("Add", inner, from_states), g.add("Shape", filled))
    return g.add("Slice", y, zeros, length, g.constant([1], "axis"))


def _within_chunk(kernel: Float, backward: bool) -> Float:
    """(to, from, channels): backward, the first sample to come is one step away."""
    steps = np.arange(_CHUNK)
    lag = steps - steps[:, None] - 1 if backward else steps[:, None] - steps
    taken: Float = np.where(lag >= 0, kernel[:, np.maximum(lag, 0)], 0.0)
    return taken.transpose(1, 2, 0)


def _handed_on(
    g: GraphBuilder, slots: Slots, entered: ir.Value, prefix: str, backward: bool
) -> ir.Value:
    """(batch, chunks, states) before each chunk, from what each chunk leaves in them."""
    shape: Shape = ["batch", 2 * slots.count]
    body = GraphBuilder(prefix=prefix)
    state, left = (body.input(name, shape, slots.dtype) for name in ("state", "left"))
    decayed = pack(body, slots, decay(body, slots, unpack(body, slots, state), _CHUNK))
    body.output("next", body.add("Add", decayed, left), shape, slots.dtype)
    body.output("before", state, shape, slots.dtype)
    batch = g.add("Gather", g.add("Shape", entered), g.constant([0], "index"), axis=0)
    size = g.concat([batch, g.constant([2 * slots.count], "width")], axis=0)
    zero = {"value": ir.tensor([0.0], ir.DataType.DOUBLE)} if slots.wide else {}
    zeros = g.add("ConstantOfShape", size, **zero)
    direction = [int(backward)]
    _, before = g.add_many(
        "Scan", [f"{prefix}last", f"{prefix}befores"], zeros, entered,
        body=body.graph(f"{prefix}chunk"), num_scan_inputs=1, scan_input_axes=[1],
        scan_output_axes=[1], scan_input_directions=direction, scan_output_directions=direction,
    )  # fmt: skip
    return before


def _norm(g: GraphBuilder, norm: NormOverTime, x: ir.Value) -> ir.Value:
    scale, shift = g.of_model(norm.scale), g.of_model(norm.shift)
    axes = list(norm.axes)
    centred = g.add("Sub", x, g.add("ReduceMean", x, axes=axes, keepdims=1))
    variance = g.add("ReduceMean", g.add("Mul", centred, centred), axes=axes, keepdims=1)
    deviation = g.add("Sqrt", g.add("Add", variance, g.constant(norm.epsilon)))
    return g.add("Add", g.add("Mul", g.add("Div", centred, deviation), scale), shift)


def _downsample(g: GraphBuilder, downsample: Downsample, x: ir.Value, width: int) -> ir.Value:
    """One sample of ``stride`` each, ``width`` wide."""
    stride = downsample.stride
    if downsample.kind == "sample":
        return g.add("Slice", x, *(g.constant([each], "every") for each in (0, _END, 1, stride)))
    if downsample.kind == "stack":
        # Whole windows alone, of however many samples there are.
        length = g.add("Gather", g.add("Shape", x), g.constant([1], "index"), axis=0)
        every = g.constant([stride], "stride")
        whole = g.add("Sub", length, g.add("Mod", length, every))
        start, axis = g.constant([0], "start"), g.constant([1], "axis")
        x = g.add("Slice", x, start, whole, axis)
        y = g.reshape(x, [0, -1, stride, width // stride])
        return g.reshape(g.add("Transpose", y, perm=[0, 1, 3, 2]), [0, 0, -1])
    y = g.add("Transpose", x, perm=[0, 2, 1])
    y = g.add("AveragePool", y, kernel_shape=[stride], strides=[stride])
    return g.add("Transpose", y, perm=[0, 2, 1])


def _hold(g: GraphBuilder, hold: Hold, y: ir.Value, x: ir.Value) -> ir.Value:
    """The latest answer to each sample of the input, 0 before there is one."""
    start, axis = g.constant([0], "start"), g.constant([1], "axis")
    none = g.add("Mul", g.add("Slice", y, start, axis, axis), g.constant(0.0, "none"))
    length = g.add("Gather", g.add("Shape", x), g.constant(1, "index"), axis=0)
    times = g.add("Range", g.constant(0, "from"), length, g.constant(1, "by"))
    since = g.add("Add", times, g.constant(hold.period - hold.first, "since"))
    latest = g.add("Div", since, g.constant(hold.period, "period"))
    return g.add("Gather", g.concat([none, y], axis=1), latest, axis=1)


def _pool(g: GraphBuilder, pooling: PoolSequence, x: ir.Value) -> ir.Value:
    kind, answers = pooling.kind, pooling.answers
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
    return g.add("Gather", x, g.constant(-1 if kind == "last" else 0, "index"), axis=1)


def _running(g: GraphBuilder, kind: str, x: ir.Value) -> ir.Value:
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
