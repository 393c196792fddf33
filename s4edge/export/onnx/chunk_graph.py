"""The chunk graph: T samples in, T answers out, the packed state of the step graph.

Within a chunk a layer's outputs are a short convolution of its inputs, plus what its old states
add; the old states decay by ``A^T`` at once, and what the chunk's inputs leave in them is one
product. As in the step graph all that depends on old states only is computed before the first
layer, for all layers together, and the new states after the last.

Layers that run once for several samples have so many fewer steps in a chunk, which holds whole
ones. What runs at one rate is computed together as above.

A sequence whose length is no multiple of T is finished by a chunk filled up with anything: the
first outputs do not depend on what comes later. `s4edge.runtime.Stream.finish` does so.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from s4edge.arrays import Int
from s4edge.errors import S4EdgeError
from s4edge.export.lowering.program import Downsample, Hold, Pool, Program, Recurrence, Stage
from s4edge.export.onnx.builder import GraphBuilder
from s4edge.export.onnx.products import causal
from s4edge.export.onnx.slots import Slots, decay, entering, lay_out, leaving, receive, send
from s4edge.export.onnx.stages import Own, emit, joined

# Chunks are chosen among these, or the next whole windows, where none is asked for.
CHUNKS = (4, 8, 16, 32)
# Bytes of matrices that a chosen chunk may need, and that an asked one may.
CHOSEN_BYTES, LARGEST_BYTES = 2 << 20, 1 << 30


def matrix_bytes(program: Program, chunk: int, wide: bool = False) -> int:
    """Bytes of the matrices that stand for kernels and states in a chunk graph."""
    return sum(
        4 * (len(slots.order) + 2 * slots.floats) * (chunk // period)
        for period, slots in _slots_of(program, wide).items()
    )


def choose_chunk(program: Program) -> int:
    """The largest of `CHUNKS` whose matrices stay below `CHOSEN_BYTES`, or the smallest."""
    period = program.period
    chunks = [chunk + -chunk % period for chunk in CHUNKS]
    fitting = [chunk for chunk in chunks if matrix_bytes(program, chunk) <= CHOSEN_BYTES]
    return max(fitting, default=chunks[0])


def _slots_of(program: Program, wide: bool) -> dict[int, Slots]:
    """By the samples that a step of them takes."""
    periods = program.periods
    found: dict[int, list[Recurrence]] = {}
    for stage, systems in program.systems:
        found.setdefault(periods[stage.name], []).append(systems)
    return {
        period: lay_out([systems.modes for systems in layers], wide)
        for period, layers in (found or {1: []}).items()
    }


def chunk_graph(program: Program, chunk: int, wide: bool = False) -> ir.Model:
    """Build the chunk graph of a model: ``x`` and ``y`` are (batch, chunk, features).

    With ``wide`` its states are float64 within.

    Raises:
        S4EdgeError: the matrices would be too large, or a chunk holds no whole windows of what
            runs once for several samples.
    """
    period = program.period
    if chunk % period:
        raise S4EdgeError(
            f"the model answers once for {period} samples, which chunks of {chunk} are no multiple "
            f"of: ask for --chunk {chunk + -chunk % period}"
        )
    needed = matrix_bytes(program, chunk, wide)
    if needed > LARGEST_BYTES:
        raise S4EdgeError(
            f"chunks of {chunk} samples need {needed / 1e9:.1f} GB of matrices, more than "
            f"{LARGEST_BYTES / 1e9:.1f}; ask for shorter ones with --chunk"
        )
    g, slots = GraphBuilder(), _slots_of(program, wide)
    pooled, held = program.widths(Pool), [] if period == 1 else [program.d_output]
    sizes = [*(each.floats for each in slots.values()), *pooled, *held]
    x = g.input("x", ["batch", chunk, program.d_input])
    state = g.input("state", ["batch", sum(sizes)])
    parts = g.split(state, sizes)
    periods = program.periods
    rates = {
        period: _Rate(g, each, chunk // period, part, _channels(program, period))
        for (period, each), part in zip(slots.items(), parts, strict=False)
    }
    pool, answer = parts[len(rates) : len(rates) + len(pooled)], parts[-1]
    after: list[ir.Value] = []

    def systems(systems: Recurrence, u: ir.Value, stage: Stage) -> ir.Value:
        return rates[periods[stage.name]].systems(systems, u)

    def downsample(downsample: Downsample, x: ir.Value, stage: Stage) -> ir.Value:
        return g.rows(joined(g, downsample, x, stage.width), stage.width)

    def pooling(pooling: Pool, x: ir.Value, stage: Stage) -> ir.Value:
        x, new_pool = _pool(
            g, pooling.kind, x, pool, stage.width, chunk // periods[stage.name]
        )  # fmt: skip
        after.extend(new_pool)
        return x

    def hold(hold: Hold, y: ir.Value, stage: Stage) -> ir.Value:
        y = g.reshape(y, [-1, chunk // hold.period, stage.width])
        after.append(g.add("Gather", y, g.constant(-1, "last"), axis=1))
        before = g.add("Unsqueeze", answer, g.constant([1], "axis"))
        latest = g.constant(_latest(hold, chunk), "latest")
        return g.rows(g.add("Gather", g.concat([before, y], axis=1), latest, axis=1), stage.width)

    # From here on (batch T, features): dense layers add their bias for nothing then, and
    # onnxruntime's norms are quicker.
    values = {"x": g.rows(x, program.d_input)}
    own: Own = {Recurrence: systems, Downsample: downsample, Pool: pooling, Hold: hold}
    emit(g, program.stages[: program.through_systems], values, own)
    states = [rate.next_state() for rate in rates.values()]
    emit(g, program.stages[program.through_systems :], values, own)
    y = g.reshape(values[program.output], [-1, chunk, program.d_output])
    g.output("y", y, ["batch", chunk, program.d_output])
    g.output("next_state", g.concat([*states, *after]), ["batch", sum(sizes)])
    return g.model("s4edge_chunk")


def _channels(program: Program, period: int) -> list[int]:
    """Of the systems of each layer that takes so many samples a step."""
    periods = program.periods
    return [stage.width for stage, _ in program.systems if periods[stage.name] == period]


def _latest(hold: Hold, chunk: int) -> Int:
    """(chunk,) which answer each sample has: 0 that from before the chunk, 1 the first in it."""
    return np.asarray((np.arange(chunk) + hold.period - hold.first) // hold.period)


class _Rate:
    """The systems of all layers that run at one rate.

    Args:
        g: the graph.
        slots: of them.
        steps: in a chunk.
        packed: their state before the chunk.
        channels: of each layer.
    """

    def __init__(
        self, g: GraphBuilder, slots: Slots, steps: int, packed: ir.Value, channels: list[int]
    ) -> None:
        self._g, self._slots, self._steps = g, slots, steps
        self._states = receive(g, slots, packed)
        from_old = _from_old(g, slots, self._states, steps, channels) if channels else []
        self._from_old = iter(from_old)
        self._entered: list[ir.Value] = []

    def systems(self, systems: Recurrence, u: ir.Value) -> ir.Value:
        """What the next layer's systems answer to ``u``."""
        self._entered.append(u)
        kernel = systems.modes.kernel(self._steps)
        kernel[:, 0] += systems.feedthrough.value
        return self._g.add("Add", causal(self._g, u, kernel, self._steps), next(self._from_old))

    def next_state(self) -> ir.Value:
        """The packed state after the chunk."""
        g, slots, steps = self._g, self._slots, self._steps
        states = decay(g, slots, self._states, steps)
        if self._entered:
            entered = g.reshape(g.concat(self._entered), [-1, steps, len(slots.order)])
            powers = np.stack([slots.entering(steps - 1 - t) for t in range(steps)])
            states = g.add("Add", states, entering(g, slots, entered, powers))
        return send(g, slots, states)


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
