"""The step graph: one sample in, one answer out, one packed state.

What a layer's old state adds to its output, and the decayed state itself, depend on the old state
only. Both are computed for all layers at once before the first layer, and the new states of all
layers are formed at once after the last, so that inside a layer only ``old + K[0] u`` is left.

The packed state is that of the slots (`s4edge.export.onnx.slots`), then that of the pooling
(`s4edge.model.pooling`).
"""

from __future__ import annotations

import numpy as np
import onnx

from s4edge.arrays import Float
from s4edge.errors import S4EdgeError
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
from s4edge.export.onnx.slots import decay, lay_out, outputs, receive, send, spread
from s4edge.model.block import Block
from s4edge.model.configuration import Pooling
from s4edge.model.pooling import state_widths
from s4edge.model.sequence_model import SequenceModel


def step_graph(model: SequenceModel, wide: bool = False) -> onnx.ModelProto:
    """Build the step graph of a model, its states float64 within if ``wide``.

    Raises:
        S4EdgeError: the model has no stable recurrence.
    """
    config = model.config
    if config.cannot_stream is not None:
        raise S4EdgeError(f"no step graph can be written: {config.cannot_stream}")
    blocks = model.blocks
    slots = lay_out([block.systems.modes() for block in blocks], wide)
    g = GraphBuilder()
    pooled = state_widths(config.running_pooling, config.d_features)
    states, *pool = g.split("state", [slots.floats, *pooled])

    decayed = decay(g, slots, receive(g, slots, states))
    from_old = outputs(g, slots, decayed)
    old_outputs = g.split(from_old, [block.config.systems.channels for block in blocks])

    x = encode(g, model, "x")
    inputs = []
    for index, (block, old) in enumerate(zip(blocks, old_outputs, strict=True)):
        u = norm(g, block.config.norm, block.norm, x) if _is_pre(block) else x
        v = read_inputs(g, block.config.systems, u)
        y = g.add("Add", old, g.add("Mul", v, g.constant(first_tap(block), "tap")))
        x = after_systems(g, block, x, u, y)
        x = widened(g, block, x, config.block_widths(index)[1])
        inputs.append(v)
    entering = g.concat(inputs) if len(inputs) > 1 else inputs[0]
    states = g.add("Add", decayed, spread(g, slots, entering))
    new_states = [send(g, slots, states, None if pool else "next_state")]

    x = norm(g, config.final_norm, model.norm, x)
    if pool:
        x, new_pool = pool_step(g, config.running_pooling, x, pool)
        g.concat([*new_states, *new_pool], output="next_state")
    decode(g, model, x)
    size = slots.floats + sum(pooled)
    width = 1 if config.encoder == "embedding" else config.d_input
    return g.model(
        {"x": ["batch", width], "state": ["batch", size]},
        {"y": ["batch", config.d_output], "next_state": ["batch", size]},
        "s4edge_step",
    )


def _is_pre(block: Block) -> bool:
    return block.config.norm_placement == "pre"


def first_tap(block: Block) -> Float:
    """(channels,) what an input adds to the output at once: ``D + K[0]``."""
    modes = block.systems.modes()
    at_once = np.bincount(modes.channel, weights=modes.weight.real, minlength=modes.channels)
    return np.asarray(numbers(block.systems.D) + at_once)


def pool_step(g: GraphBuilder, kind: Pooling, x: str, state: list[str]) -> tuple[str, list[str]]:
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
