"""The step graph: one sample in, one answer out, one packed state.

What a layer's old state adds to its output, and the decayed state itself, depend on the old state
only. Both are computed for all layers at once before the first layer, and the new states of all
layers are formed at once after the last, so that inside a layer only ``old + K[0] u`` is left.

The packed state is that of the slots (`s4edge.export.onnx.slots`), then that of the pooling
(`s4edge.model.pooling`).
"""

from __future__ import annotations

import onnx_ir as ir

from s4edge.errors import S4EdgeError
from s4edge.export.lowering.program import Pool, Program, Recurrence, Stage
from s4edge.export.onnx.builder import GraphBuilder
from s4edge.export.onnx.slots import decay, lay_out, outputs, receive, send, spread
from s4edge.export.onnx.stages import emit


def step_graph(program: Program, wide: bool = False) -> ir.Model:
    """Build the step graph of a model, its states float64 within if ``wide``.

    Raises:
        S4EdgeError: parts of the model are not computed at every sample.
    """
    if program.period != 1:
        raise S4EdgeError(
            f"no step graph can be written: the model answers once for {program.period} samples, "
            "and a graph would compute all of it for each; write a chunk graph (--mode chunk) or C "
            "(--c)"
        )
    slots = lay_out([systems.modes for _, systems in program.systems], wide)
    pooled = program.widths(Pool)
    size = slots.floats + sum(pooled)
    g = GraphBuilder()
    x, state = g.input("x", ["batch", program.d_input]), g.input("state", ["batch", size])
    states, *pool = g.split(state, [slots.floats, *pooled])
    decayed = decay(g, slots, receive(g, slots, states))
    channels = [stage.width for stage, _ in program.systems]
    from_old = iter(g.split(outputs(g, slots, decayed), channels) if channels else [])
    entering: list[ir.Value] = []

    def systems(systems: Recurrence, u: ir.Value, stage: Stage) -> ir.Value:
        entering.append(u)
        tap = g.constant(systems.first_tap, "tap", role="feedthrough")
        return g.add("Add", next(from_old), g.add("Mul", u, tap))

    values = {"x": x}
    emit(g, program.stages[: program.through_systems], values, {Recurrence: systems})
    states = g.add("Add", decayed, spread(g, slots, g.concat(entering))) if entering else decayed
    next_state = send(g, slots, states)

    def pooling(pooling: Pool, x: ir.Value, stage: Stage) -> ir.Value:
        nonlocal next_state
        x, new_pool = pool_step(g, pooling.kind, x, pool)
        next_state = g.concat([next_state, *new_pool])
        return x

    emit(g, program.stages[program.through_systems :], values, {Pool: pooling})
    g.output("y", values[program.output], ["batch", program.d_output])
    g.output("next_state", next_state, ["batch", size])
    return g.model("s4edge_step")


def pool_step(
    g: GraphBuilder, kind: str, x: ir.Value, state: list[ir.Value]
) -> tuple[ir.Value, list[ir.Value]]:
    """The pooled features and the pooling's next state; see `s4edge.model.pooling`."""
    if kind == "sum":
        total = g.add("Add", *state, x)
        return total, [total]
    pooled, seen = state
    seen = g.add("Add", seen, g.constant([1.0], "one"))
    if kind == "mean":
        pooled = g.add("Add", pooled, g.add("Div", g.add("Sub", x, pooled), seen))
    else:
        is_first = g.add("Equal", seen, g.constant([1.0], "one"))
        pooled = g.add("Where", is_first, x, pooled)
    return pooled, [pooled, seen]
