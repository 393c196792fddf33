"""The systems of one or all layers as slots of two real states, and their update in a graph.

A slot is a conjugate pair or two real poles. It is updated as ``x1 + p1 x1 + q1 x2 + b1 u``,
``x2 + p2 x2 + q2 x1 + b2 u`` and adds ``c1 x1 + c2 x2`` to the output of its channel. The packed
state is all x1, then all x2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s4edge.export.builder import GraphBuilder
from s4edge.model.modes import Modes, expm1

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


def decay(g: GraphBuilder, slots: Slots, states: str) -> str:
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


def outputs(g: GraphBuilder, slots: Slots, decayed: str) -> str:
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


def next_states(
    g: GraphBuilder, slots: Slots, decayed: str, u: str, output: str | None = None
) -> str:
    """(batch, 2 slots): ``A x + B u``, u (batch, channels)."""
    per_channel = slots.per_channel
    if per_channel is None:
        spread = g.add("Gather", u, g.constant(np.tile(slots.channel, 2), "channel"), axis=1)
        entering = g.add("Mul", spread, g.constant(slots.b.reshape(-1), "b"))
    else:
        column = g.add("Reshape", u, g.constant([0, 1, slots.channels, 1], "shape"))
        b = g.constant(slots.b.reshape(2, slots.channels, per_channel), "b")
        flat = g.constant([0, 2 * len(slots.channel)], "shape")
        entering = g.add("Reshape", g.add("Mul", column, b), flat)
    return g.add("Add", decayed, entering, output=output)
