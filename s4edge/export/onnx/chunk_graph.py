"""The chunk graph: T samples in, T answers out, the packed state of the step graph.

Within a chunk a layer's outputs are a short convolution of its inputs, plus what its old states
add; the old states decay by ``A^T`` at once, and what the chunk's inputs leave in them is one
product. As in the step graph all that depends on old states only is computed before the first
layer, for all layers together, and the new states after the last.

A sequence whose length is no multiple of T is finished by a chunk filled up with anything: the
first outputs do not depend on what comes later. `s4edge.runtime.Stream.finish` does so.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from s4edge.errors import S4EdgeError
from s4edge.export.lowering.program import Pool, Program, Recurrence, Stage
from s4edge.export.onnx.builder import GraphBuilder
from s4edge.export.onnx.products import causal
from s4edge.export.onnx.slots import Slots, decay, entering, lay_out, leaving, receive, send
from s4edge.export.onnx.stages import emit

# Chunks are chosen among these where none is asked for.
CHUNKS = (4, 8, 16, 32)
# Bytes of matrices that a chosen chunk may need, and that an asked one may.
CHOSEN_BYTES, LARGEST_BYTES = 2 << 20, 1 << 30


def matrix_bytes(program: Program, chunk: int, wide: bool = False) -> int:
    """Bytes of the matrices that stand for kernels and states in a chunk graph."""
    slots = _slots_of(program, wide)
    return 4 * (len(slots.order) * chunk + 2 * slots.floats * chunk)


def choose_chunk(program: Program) -> int:
    """The largest of `CHUNKS` whose matrices stay below `CHOSEN_BYTES`, or the smallest."""
    fitting = [chunk for chunk in CHUNKS if matrix_bytes(program, chunk) <= CHOSEN_BYTES]
    return max(fitting, default=CHUNKS[0])


def _slots_of(program: Program, wide: bool) -> Slots:
    return lay_out([systems.modes for _, systems in program.systems], wide)


def chunk_graph(program: Program, chunk: int, wide: bool = False) -> ir.Model:
    """Build the chunk graph of a model: ``x`` and ``y`` are (batch, chunk, features).

    With ``wide`` its states are float64 within.

    Raises:
        S4EdgeError: the matrices would be too large.
    """
    needed = matrix_bytes(program, chunk, wide)
    if needed > LARGEST_BYTES:
        raise S4EdgeError(
            f"chunks of {chunk} samples need {needed / 1e9:.1f} GB of matrices, more than "
            f"{LARGEST_BYTES / 1e9:.1f}; ask for shorter ones with --chunk"
        )
    slots, pooled = _slots_of(program, wide), program.pooled
    size = slots.floats + sum(pooled)
    g = GraphBuilder()
    x, state = g.input("x", ["batch", chunk, program.d_input]), g.input("state", ["batch", size])
    packed, *pool = g.split(state, [slots.floats, *pooled])
    states = receive(g, slots, packed)
    channels = [stage.width for stage, _ in program.systems]
    from_old = iter(_from_old(g, slots, states, chunk, channels) if channels else [])
    entered: list[ir.Value] = []

    def systems(systems: Recurrence, u: ir.Value, stage: Stage) -> ir.Value:
        entered.append(u)
        kernel = systems.modes.kernel(chunk)
        kernel[:, 0] += systems.feedthrough.value
        return g.add("Add", causal(g, u, kernel, chunk), next(from_old))

    # From here on (batch T, features): dense layers add their bias for nothing then, and
    # onnxruntime's norms are quicker.
    values = {"x": g.rows(x, program.d_input)}
    emit(g, program.stages[: program.through_systems], values, {Recurrence: systems})
    inputs = [g.reshape(g.concat(entered), [-1, chunk, len(slots.order)])] if entered else []
    states = decay(g, slots, states, chunk)
    for each in inputs:
        powers = np.stack([slots.entering(chunk - 1 - t) for t in range(chunk)])
        states = g.add("Add", states, entering(g, slots, each, powers))
    next_state = send(g, slots, states)

    def pooling(pooling: Pool, x: ir.Value, stage: Stage) -> ir.Value:
        nonlocal next_state
        x, new_pool = _pool(g, pooling.kind, x, pool, stage.width, chunk)
        next_state = g.concat([next_state, *new_pool])
        return x

    emit(g, program.stages[program.through_systems :], values, {Pool: pooling})
    y = g.reshape(values[program.output], [-1, chunk, program.d_output])
    g.output("y", y, ["batch", chunk, program.d_output])
    g.output("next_state", next_state, ["batch", size])
    return g.model("s4edge_chunk")


def _from_old(
    g: GraphBuilder, slots: Slots, states: ir.Value, chunk: int, channels: list[int]
) -> list[ir.Value]:
    """(batch T, channels) of each layer: what states add to its outputs."""
    powers = np.stack([slots.leaving(t + 1) for t in range(chunk)])
    return g.split(g.rows(leaving(g, slots, states, powers), len(slots.order)), channels)


def _pool(
    g: GraphBuilder, kind: str, x: ir.Value, state: list[ir.Value], width: int, chunk: int
) -> tuple[ir.Value, list[ir.Value]]:
    """Features (batch T, width) pooled up to each sample, and the pooling's next state."""
    axis, last = g.constant([1], "axis"), g.constant(chunk - 1, "last")
    x = g.reshape(x, [-1, chunk, width])
    before = g.add("Unsqueeze", state[0], axis)
    if kind == "sum":
        pooled = g.add("Add", before, g.add("MatMul", g.constant(np.tri(chunk), "sum"), x))
        return g.rows(pooled, width), [g.add("Gather", pooled, last, axis=1)]
    seen = state[1]
    if kind == "mean":
        counts = g.add("Add", g.add("Unsqueeze", seen, axis),
                       g.constant(np.arange(1, chunk + 1)[:, None] * 1.0, "count"))  # fmt: skip
        total = g.add("MatMul", g.constant(np.tri(chunk), "sum"), g.add("Sub", x, before))
        pooled = g.add("Add", before, g.add("Div", total, counts))
    else:  # "first"
        first = g.add("Slice", x, *(g.constant([each], "first") for each in (0, 1, 1)))
        none = g.add("Unsqueeze", g.add("Equal", seen, g.constant([0.0], "none")), axis)
        held = g.add("Where", none, first, before)
        pooled = g.add("Add", held, g.constant(np.zeros((chunk, 1)), "every"))
    new_state = [
        g.add("Gather", pooled, last, axis=1),
        g.add("Add", seen, g.constant([float(chunk)], "count")),
    ]
    return g.rows(pooled, width), new_state
