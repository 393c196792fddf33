"""The systems of one or all layers as slots of two real states, and their update in a graph.

A slot is a conjugate pair or two real poles. It is updated as ``x1 + p1 x1 + q1 x2 + b1 u``,
``x2 + p2 x2 + q2 x1 + b2 u`` and adds ``c1 x1 + c2 x2`` to the output of its channel. The packed
state is all x1, then all x2.

Channels hold different numbers of slots, and a graph sums over them. Channels of about equally
many stand together, filled up with slots that stay at zero: a group costs two nodes, a filled-up
slot its arithmetic; the groups are those that cost least together.
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


# What a group costs, in slots: its two nodes take as long as the arithmetic of so many
# (measured: about 1 us for the nodes, 25 ns for a slot's nine operations and loads).
_GROUP_COST = 40


@dataclass(frozen=True)
class Slots:
    """The systems of all layers, slot by slot.

    Attributes:
        channel: (slots,) the channel of each slot, counted through all layers.
        groups: channels and slots of each of them, group by group, as the slots stand.
        place: (channels,) where each channel stands in the groups.
        p: (2, slots) own coefficient less 1.
        q: (2, slots) coefficient of the slot's other state.
        b: (2, slots) input weight.
        c: (2, slots) output weight.
    """

    channel: Int
    groups: list[tuple[int, int]]
    place: Int
    p: Float
    q: Float
    b: Float
    c: Float

    @property
    def in_order(self) -> bool:
        """Whether all channels have equally many slots and stand in their own order."""
        return len(self.groups) == 1 and bool((np.diff(self.place) == 1).all())


def lay_out(layers: list[Modes]) -> Slots:
    """Slots of the stable modes of all layers."""
    rows: list[list[Any]] = []
    for modes in layers:
        delta = expm1(modes.log_pole)
        for channel in range(modes.channels):
            first, last = np.searchsorted(modes.channel, [channel, channel + 1])
            rows.append(_of_channel(modes, delta, int(first), int(last)))
    counts = np.array([max(len(row), 1) for row in rows])
    groups: list[tuple[int, int]] = []
    owners: list[Int] = []
    values: list[Float] = []
    for width, least in _widths(counts):
        (these,) = np.nonzero((counts > least) & (counts <= width))
        groups.append((len(these), width))
        owners.append(these)
        filled = np.zeros((len(these), width, 2, 4))
        for index, owner in enumerate(these):
            states = np.array(rows[owner]).reshape(-1, 2, 4)
            filled[index, : len(states)] = states
        values.append(filled.reshape(-1, 2, 4))
    standing = np.concatenate(owners)
    spread = [
        np.repeat(channels, width) for channels, (_, width) in zip(owners, groups, strict=True)
    ]
    numbers = np.concatenate(values).transpose(2, 1, 0)
    return Slots(np.concatenate(spread), groups, np.argsort(standing, kind="stable"), *numbers)


def _of_channel(modes: Modes, delta: Any, first: int, last: int) -> list[Any]:
    """(p, q, b, c) of both states of every slot of one channel."""
    rows: list[Any] = []
    reals = [i for i in range(first, last) if modes.is_real[i]]
    for i in range(first, last):
        if not modes.is_real[i]:
            d, w = delta[i], modes.weight[i]
            rows.append([(d.real, -d.imag, 1.0, w.real), (d.real, d.imag, 0.0, -w.imag)])
    for start in range(0, len(reals), 2):
        states = [(delta[i].real, 0.0, 1.0, modes.weight[i].real) for i in reals[start : start + 2]]
        # An odd real pole leaves half a slot that stays at zero.
        rows.append(states + [(0.0, 0.0, 0.0, 0.0)] * (2 - len(states)))
    return rows


def _widths(counts: Int) -> list[tuple[int, int]]:
    """The groups that cost least: their slots per channel, and those of the group below.

    By dynamic programming over the numbers of slots that occur.
    """
    found, channels = np.unique(counts, return_counts=True)
    best: list[tuple[float, list[tuple[int, int]]]] = [(0.0, [])]
    for end in range(1, len(found) + 1):
        width = int(found[end - 1])
        options = []
        for start in range(end):
            cost, before = best[start]
            cost += _GROUP_COST + width * int(channels[start:end].sum())
            least = int(found[start - 1]) if start else 0
            options.append((cost, [*before, (width, least)]))
        best.append(min(options, key=lambda option: option[0]))
    return best[-1][1]


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
    if slots.in_order:
        ((channels, width),) = slots.groups
        shape = g.constant([0, 2, channels, width], "shape")
        by_channel = g.add("Reshape", weighted, shape)
        return g.add("ReduceSum", by_channel, g.constant([1, 3], "axes"), keepdims=0)
    count = len(slots.channel)
    both = g.add("Add", *g.split(weighted, [count, count]))
    sums = []
    parts = g.split(both, [n * width for n, width in slots.groups])
    for part, (channels, width) in zip(parts, slots.groups, strict=True):
        if width > 1:
            part = g.add("Reshape", part, g.constant([0, channels, width], "shape"))
            part = g.add("ReduceSum", part, g.constant([2], "axes"), keepdims=0)
        sums.append(part)
    return g.add("Gather", g.concat(sums), g.constant(slots.place, "place"), axis=1)


def next_states(
    g: GraphBuilder, slots: Slots, decayed: str, u: str, output: str | None = None
) -> str:
    """(batch, 2 slots): ``A x + B u``, u (batch, channels)."""
    if slots.in_order:
        ((channels, width),) = slots.groups
        column = g.add("Reshape", u, g.constant([0, 1, channels, 1], "shape"))
        b = g.constant(slots.b.reshape(2, channels, width), "b")
        flat = g.constant([0, 2 * len(slots.channel)], "shape")
        entering = g.add("Reshape", g.add("Mul", column, b), flat)
    else:
        spread = g.add("Gather", u, g.constant(np.tile(slots.channel, 2), "channel"), axis=1)
        entering = g.add("Mul", spread, g.constant(slots.b.reshape(-1), "b"))
    return g.add("Add", decayed, entering, output=output)
