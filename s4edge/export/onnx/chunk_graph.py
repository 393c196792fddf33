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
import onnx

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
from s4edge.export.onnx.products import causal
from s4edge.export.onnx.slots import Slots, decay, entering, lay_out, leaving, receive, send
from s4edge.model.configuration import Pooling
from s4edge.model.pooling import state_widths
from s4edge.model.sequence_model import SequenceModel

# Chunks are chosen among these where none is asked for.
CHUNKS = (4, 8, 16, 32)
# Bytes of matrices that a chosen chunk may need, and that an asked one may.
CHOSEN_BYTES, LARGEST_BYTES = 2 << 20, 1 << 30


def matrix_bytes(model: SequenceModel, chunk: int, wide: bool = False) -> int:
    """Bytes of the matrices that stand for kernels and states in a chunk graph."""
    slots = _slots_of(model, wide)
    return 4 * (len(slots.order) * chunk + 2 * slots.floats * chunk)


def choose_chunk(model: SequenceModel) -> int:
    """The largest of `CHUNKS` whose matrices stay below `CHOSEN_BYTES`, or the smallest.

    Raises S4EdgeError as `chunk_graph` does.
    """
    fitting = [chunk for chunk in CHUNKS if matrix_bytes(model, chunk) <= CHOSEN_BYTES]
    return max(fitting, default=CHUNKS[0])


def _slots_of(model: SequenceModel, wide: bool) -> Slots:
    if model.config.cannot_stream is not None:
        raise S4EdgeError(f"no chunk graph can be written: {model.config.cannot_stream}")
    return lay_out([block.systems.modes() for block in model.blocks], wide)


def chunk_graph(model: SequenceModel, chunk: int, wide: bool = False) -> onnx.ModelProto:
    """Build the chunk graph of a model: ``x`` and ``y`` are (batch, chunk, features).

    With ``wide`` its states are float64 within.

    Raises:
        S4EdgeError: the model has no stable recurrence, or the matrices would be too large.
    """
    config = model.config
    needed = matrix_bytes(model, chunk, wide)
    if needed > LARGEST_BYTES:
        raise S4EdgeError(
            f"chunks of {chunk} samples need {needed / 1e9:.1f} GB of matrices, more than "
            f"{LARGEST_BYTES / 1e9:.1f}; ask for shorter ones with --chunk"
        )
    slots = _slots_of(model, wide)
    width = 1 if config.encoder == "embedding" else config.d_input
    g = GraphBuilder()
    pooled = state_widths(config.running_pooling, config.d_features)
    packed, *pool = g.split("state", [slots.floats, *pooled])
    states = receive(g, slots, packed)
    powers = np.stack([slots.leaving(t + 1) for t in range(chunk)])
    channels = [block.config.systems.channels for block in model.blocks]
    from_old = g.add("Reshape", leaving(g, slots, states, powers), g.rows(len(slots.order)))
    old_outputs = g.split(from_old, channels)

    # From here on (batch T, features): dense layers add their bias for nothing then, and
    # onnxruntime's norms are quicker.
    x = encode(g, model, g.add("Reshape", "x", g.rows(width)))
    inputs = []
    for index, (block, old) in enumerate(zip(model.blocks, old_outputs, strict=True)):
        pre = block.config.norm_placement == "pre"
        u = norm(g, block.config.norm, block.norm, x) if pre else x
        v = read_inputs(g, block.config.systems, u)
        kernel = block.systems.modes().kernel(chunk)
        kernel[:, 0] += numbers(block.systems.D)
        y = g.add("Add", causal(g, v, kernel, chunk), old)
        x = after_systems(g, block, x, u, y)
        x = widened(g, block, x, config.block_widths(index)[1])
        inputs.append(v)
    chunks = g.constant([-1, chunk, len(slots.order)], "shape")
    entered = g.add("Reshape", g.concat(inputs) if len(inputs) > 1 else inputs[0], chunks)
    powers = np.stack([slots.entering(chunk - 1 - t) for t in range(chunk)])
    states = g.add("Add", decay(g, slots, states, chunk), entering(g, slots, entered, powers))
    new_states = [send(g, slots, states, None if pool else "next_state")]

    x = norm(g, config.final_norm, model.norm, x)
    if pool:
        x, new_pool = _pool(g, config.running_pooling, x, pool, config.d_features, chunk)
        g.concat([*new_states, *new_pool], output="next_state")
    y = decode(g, model, x, None)
    g.add("Reshape", y, g.constant([-1, chunk, config.d_output], "shape"), output="y")
    size = slots.floats + sum(pooled)
    return g.model(
        {"x": ["batch", chunk, width], "state": ["batch", size]},
        {"y": ["batch", chunk, config.d_output], "next_state": ["batch", size]},
        "s4edge_chunk",
    )


def _pool(
    g: GraphBuilder, kind: Pooling, x: str, state: list[str], width: int, chunk: int
) -> tuple[str, list[str]]:
    """Features (batch T, width) pooled up to each sample, and the pooling's next state."""
    axis, last = g.constant([1], "axis"), g.constant(-1, "last")
    x = g.add("Reshape", x, g.constant([-1, chunk, width], "shape"))
    before = g.add("Unsqueeze", state[0], axis)
    if kind == "sum":
        pooled = g.add("Add", before, g.add("MatMul", g.constant(np.tri(chunk), "sum"), x))
        return g.add("Reshape", pooled, g.rows(width)), [g.add("Gather", pooled, last, axis=1)]
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
    return g.add("Reshape", pooled, g.rows(width)), new_state
