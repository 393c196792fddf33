"""The step graph: one sample in, one answer out, one packed state.

What a layer's old state adds to its output, and the decayed state itself, depend on the old state
only. Both are computed for all layers at once before the first layer, and the new states of all
layers are formed at once after the last, so that inside a layer only ``old + K[0] u`` is left.

The systems are laid out in slots of two real states: a conjugate pair, or two real poles. A slot is
updated as ``x1 + p1 x1 + q1 x2 + b1 u``, ``x2 + p2 x2 + q2 x1 + b2 u`` and adds
``c1 x1 + c2 x2`` to the output. The packed state is all x1, all x2, then the running mean of the
pooling and the number of samples seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import Tensor, nn

from s4edge.errors import S4EdgeError
from s4edge.export.builder import GraphBuilder
from s4edge.model.block import Block
from s4edge.model.modes import Modes, expm1
from s4edge.model.sequence_model import SequenceModel

Float = NDArray[np.float64]
Int = NDArray[np.int64]


@dataclass(frozen=True)
class Slots:
    """The systems of all layers, slot by slot.

    Attributes:
        channel: (slots,) the channel of each slot, counted through all layers, ascending.
        channels: channels of all layers together.
        p: (2, slots) own coefficient less 1.
        q: (2, slots) coefficient of the slot's other state.
        b: (2, slots) input weight.
        c: (2, slots) output weight.
    """

    channel: Int
    channels: int
    p: Float
    q: Float
    b: Float
    c: Float

    @property
    def per_channel(self) -> int | None:
        """Slots of every channel, if all have equally many."""
        counts = np.bincount(self.channel, minlength=self.channels)
        return int(counts[0]) if (counts == counts[0]).all() else None


def lay_out(layers: list[Modes]) -> Slots:
    """Slots of the stable modes of all layers."""
    rows: list[tuple[int, Any]] = []
    offset = 0
    for modes in layers:
        delta = expm1(modes.log_pole)
        for channel in range(modes.channels):
            first, last = np.searchsorted(modes.channel, [channel, channel + 1])
            reals = [i for i in range(first, last) if modes.is_real[i]]
            for i in range(first, last):
                if not modes.is_real[i]:
                    d, w = delta[i], modes.weight[i]
                    slot = [(d.real, -d.imag, 1.0, w.real), (d.real, d.imag, 0.0, -w.imag)]
                    rows.append((offset + channel, slot))
            for start in range(0, len(reals), 2):
                states = [
                    (delta[i].real, 0.0, 1.0, modes.weight[i].real)
                    for i in reals[start : start + 2]
                ]
                # An odd real pole leaves half a slot that stays at zero.
                states += [(0.0, 0.0, 0.0, 0.0)] * (2 - len(states))
                rows.append((offset + channel, states))
        offset += modes.channels
    values = np.array([states for _, states in rows]).reshape(-1, 2, 4).transpose(2, 1, 0)
    return Slots(np.array([channel for channel, _ in rows], dtype=np.int64), offset, *values)


def step_graph(model: SequenceModel) -> onnx.ModelProto:
    """Build the step graph of a model.

    Raises:
        S4EdgeError: the model has no stable recurrence.
    """
    config = model.config
    if not config.streams:
        names = [block.name for block in config.blocks if sum(block.systems.growing)]
        raise S4EdgeError(
            f"{names[0]} has modes with |a| >= 1 (a softmax kernel holds them only up to its "
            f"length of {config.length} samples): its recurrence would be unstable, "
            "no step graph is written"
        )
    blocks = model.blocks
    slots = lay_out([block.systems.modes() for block in blocks])
    g = GraphBuilder()
    width, count = config.d_model, len(slots.channel)
    pooled = [width, 1] if config.pooling == "mean" else []
    states, *pool = g.split("state", [2 * count, *pooled])

    decayed = _decay(g, slots, states)
    from_old = _outputs(g, slots, decayed)
    old_outputs = g.split(from_old, [width] * len(blocks))

    x = "x"
    if config.encoder == "linear":
        x = g.linear(x, *_weights(model.encoder))
    inputs = []
    for block, old in zip(blocks, old_outputs, strict=True):
        x, u = _block(g, block, x, old)
        inputs.append(u)
    new_states = [_new_states(g, slots, decayed, inputs)]

    if config.pooling == "mean":
        mean, seen = pool
        seen = g.add("Add", seen, g.constant(1.0, "one"))
        x = g.add("Add", mean, g.add("Div", g.add("Sub", x, mean), seen))
        new_states += [x, seen]
    if config.decoder == "linear":
        g.linear(x, *_weights(model.decoder), output="y")
    else:
        g.add("Identity", x, output="y")
    g.concat(new_states, output="next_state")
    size = 2 * count + sum(pooled)
    return g.model(
        {"x": ["batch", config.d_input], "state": ["batch", size]},
        {"y": ["batch", config.d_output], "next_state": ["batch", size]},
        "s4edge_step",
    )


def _block(g: GraphBuilder, block: Block, x: str, old: str) -> tuple[str, str]:
    """One block; returns its output and the input of its systems."""
    config = block.config
    u = _norm(g, block, x) if config.norm_placement == "pre" else x
    y = g.add("Add", old, g.add("Mul", u, g.constant(_first_tap(block), "tap")))
    width = len(config.systems.pairs)
    y = g.activation(config.activation, y, width)
    if config.mixing == "linear":
        weight, bias = _weights(block.mixing)
        y, width = g.linear(y, weight, bias), len(bias)
    y = g.activation(config.final_activation, y, width)
    if config.residual:
        y = g.add("Add", x, y)
    return (_norm(g, block, y) if config.norm_placement == "post" else y), u


def _first_tap(block: Block) -> Float:
    """(channels,) what an input adds to the output at once: ``D + K[0]``."""
    modes = block.systems.modes()
    at_once = np.bincount(modes.channel, weights=modes.weight.real, minlength=modes.channels)
    return np.asarray(_numpy(block.systems.D) + at_once)


def _norm(g: GraphBuilder, block: Block, x: str) -> str:
    if block.config.norm == "none":
        return x
    scale, shift = (g.constant(value) for value in _weights(block.norm))
    epsilon = block.config.norm_epsilon
    return g.add("LayerNormalization", x, scale, shift, axis=-1, epsilon=epsilon)


def _decay(g: GraphBuilder, slots: Slots, states: str) -> str:
    """(batch, 2 slots): ``A x``, as ``x + (A - I) x`` so that float32 does not shift slow poles."""
    count = len(slots.channel)
    x1, x2 = g.split(states, [count, count])
    crossed = g.concat([x2, x1])
    change = g.add(
        "Add",
        g.add("Mul", states, g.constant(slots.p.reshape(-1), "p")),
        g.add("Mul", crossed, g.constant(slots.q.reshape(-1), "q")),
    )
    return g.add("Add", states, change)


def _outputs(g: GraphBuilder, slots: Slots, decayed: str) -> str:
    """(batch, channels): what the decayed states add to each channel's output."""
    weighted = g.add("Mul", decayed, g.constant(slots.c.reshape(-1), "c"))
    per_channel = slots.per_channel
    if per_channel is None:
        # Channels differ: gather each one's slots, filling up with a zero appended at the end.
        count = len(slots.channel)
        counts = np.bincount(slots.channel, minlength=slots.channels)
        per_channel = int(counts.max())
        index = np.full((2, slots.channels, per_channel), 2 * count)
        position = np.arange(count) - np.repeat(np.cumsum(counts) - counts, counts)
        for half in range(2):
            index[half, slots.channel, position] = half * count + np.arange(count)
        padded = g.add("Pad", weighted, g.constant([0, 0, 0, 1], "pads"))
        weighted = g.add("Gather", padded, g.constant(index.reshape(-1), "index"), axis=1)
    shape = g.constant([0, 2, slots.channels, per_channel], "shape")
    by_channel = g.add("Reshape", weighted, shape)
    return g.add("ReduceSum", by_channel, g.constant([1, 3], "axes"), keepdims=0)


def _new_states(g: GraphBuilder, slots: Slots, decayed: str, inputs: list[str]) -> str:
    """(batch, 2 slots): ``A x + B u``."""
    u = g.concat(inputs) if len(inputs) > 1 else inputs[0]
    per_channel = slots.per_channel
    if per_channel is None:
        spread = g.add("Gather", u, g.constant(np.tile(slots.channel, 2), "channel"), axis=1)
        entering = g.add("Mul", spread, g.constant(slots.b.reshape(-1), "b"))
    else:
        column = g.add("Reshape", u, g.constant([0, 1, slots.channels, 1], "shape"))
        b = g.constant(slots.b.reshape(2, slots.channels, per_channel), "b")
        flat = g.constant([0, 2 * len(slots.channel)], "shape")
        entering = g.add("Reshape", g.add("Mul", column, b), flat)
    return g.add("Add", decayed, entering)


def _weights(module: nn.Module) -> tuple[Float, Float]:
    return _numpy(module.get_parameter("weight")), _numpy(module.get_parameter("bias"))


def _numpy(tensor: Tensor) -> Float:
    return np.asarray(tensor.detach().double().numpy())
