"""The systems of one or all layers as slots of two real states, and their update in a graph.

A slot is a conjugate pair or two real poles. Its states are scaled so that a channel's output is
the plain sum of all its states: of a pair with state ``z`` (``z_t = a z_{t-1} + w u_t``,
``y_t = Re z_t``) they are ``x1 = (Re z + Im z) / 2`` and ``x2 = (Re z - Im z) / 2``, of real poles
``w`` times the usual state. A step is ``x1 + p1 x1 + q1 x2 + b1 u``, ``x2 + p2 x2 + q2 x1 + b2 u``.

A pair that hardly turns while it decays may have a weight of which the output sees little: its
imaginary part is multiplied by the sine of a small angle. In ``x1 + x2`` most would cancel. Its
second state is a multiple of the real part of the unweighted state instead of ``Im z``.

The packed state is all x1, then all x2; each of them slot by slot, and within a slot channel by
channel, so that both the sum over slots and the spread of an input over them work on long rows.

Channels hold different numbers of slots. Channels of about equally many stand together, filled up
with slots that stay at zero: a group costs nodes, a filled-up slot its arithmetic and memory. The
groups are those that take least time together, as measured, as long as they do not make more than
twice the slots that there are.

Where weights cancel by more than float32 bears, as those of diagonalized S4-LegS layers do, the
states are computed in float64 (`Slots.wide`). The packed state is float32 all the same: each number
as one and what it lacks, both float32, all of the first and then all of the second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from s4edge.arrays import Bool, Complex, Float, Int
from s4edge.export.onnx.builder import GraphBuilder
from s4edge.export.onnx.products import Form, per_channel
from s4edge.systems.modes import Modes, expm1

# What a group costs, in slots: its nodes take as long as the arithmetic of so many. And what it
# costs that there are several, for then channels are put in their order and back.
_GROUP_COST, _SORTING_COST = 300, 4000
# Slots at most, for each that there is.
_MOST_FILLED = 2

# A weight so many times as large as what the output sees of it would cancel.
_CANCELS = 8
# The logarithm of a pole that is 0 for every purpose.
_AT_ONCE = -700.0


@dataclass(frozen=True)
class Slots:
    """The systems of all layers, slot by slot.

    Attributes:
        groups: channels and slots of each of them, group by group, as the slots stand.
        order: (channels,) the channel at each place, counted through all layers.
        log_pole: (2, slots) of each state; that of a pair stands twice.
        weight: (2, slots) likewise.
        pair: (slots,) whether it is a conjugate pair.
        wide: whether states are float64 within the graph.
    """

    groups: list[tuple[int, int]]
    order: Int
    log_pole: Complex
    weight: Complex
    pair: Bool
    wide: bool = False

    @property
    def dtype(self) -> type[np.float32] | type[np.float64]:
        """Of the states within the graph."""
        return np.float64 if self.wide else np.float32

    @property
    def floats(self) -> int:
        """Numbers of the packed state."""
        return 2 * self.count * (2 if self.wide else 1)

    @property
    def count(self) -> int:
        """Slots, those that fill up counted."""
        return len(self.pair)

    @property
    def in_order(self) -> bool:
        """Whether the channels stand in their own order."""
        return bool((np.diff(self.order) == 1).all())

    @property
    def shape(self) -> tuple[int, ...]:
        """(width, channels) of the only group, else (slots,)."""
        if len(self.groups) == 1:
            ((channels, width),) = self.groups
            return width, channels
        return (self.count,)

    @property
    def owner(self) -> Int:
        """(slots,) the channel that each belongs to."""
        ends = np.cumsum([channels for channels, _ in self.groups])[:-1]
        parts = np.split(self.order, ends)
        return np.concatenate(
            [np.tile(part, width) for part, (_, width) in zip(parts, self.groups, strict=True)]
        )

    @property
    def _felt(self) -> Float:
        """(slots,) how large a pair's weight is for the output; 0 where that is all of it."""
        pole, weight = self.log_pole[0], self.weight[0]
        turn = np.minimum(1, np.abs(pole.imag) / -pole.real)
        felt = np.abs(weight.real) + np.abs(weight.imag) * turn
        cancels = self.pair & (np.abs(weight) > _CANCELS * felt) & (felt > 0)
        return np.asarray(np.where(cancels, felt, 0.0))

    def power(self, k: int) -> tuple[Float, Float]:
        """``p`` and ``q`` of ``k`` steps at once, (2, slots) each: ``A^k - I`` and the crossing.

        With ``y = Re(w s)`` and ``d = Re(v s)`` of the unweighted state ``s``, the states are
        ``(y + d) / 2`` and ``(y - d) / 2``; ``v`` is ``-i w``, or real.
        """
        change = expm1(k * self.log_pole)
        swing, w, v = np.where(self.pair, change.imag, 0.0), self.weight[0], self._felt
        plain = v == 0
        scale = np.where(plain, 1.0, w.imag * np.where(plain, 1.0, v))
        tilt = np.where(plain, 0.0, w.real * v / scale)
        of_y, of_d = (np.where(plain, 1.0, each / scale) for each in (v**2, w.real**2 + w.imag**2))
        uneven, sign = (of_y - of_d) / 2, np.array([[1.0], [-1.0]])
        p = change.real + swing * uneven * sign
        return np.asarray(p), np.asarray(swing * (tilt + (of_y + of_d) / 2 * sign))

    def entering(self, k: int = 0) -> Float:
        """(2, slots) what an input adds to the states ``k`` steps later: ``A^k b``."""
        power = np.exp(k * self.log_pole)
        added, felt = power * self.weight, self._felt
        second = np.where(felt > 0, felt * power.real, added.imag)
        second = np.where(self.pair, second, 0.0) * np.array([[1.0], [-1.0]])
        return np.asarray(np.where(self.pair, (added.real + second) / 2, added.real))

    def leaving(self, k: int) -> Float:
        """(2, slots) what the states add to the output ``k`` steps later: ``1 A^k``."""
        p, q = self.power(k)
        return np.asarray(1 + p + q[::-1])

    def by_group(self, values: Float) -> list[Float]:
        """(2, slots, ...) as (2, width, channels, ...) group by group."""
        ends = np.cumsum([channels * width for channels, width in self.groups])[:-1]
        return [
            part.reshape(2, width, channels, *values.shape[2:])
            for part, (channels, width) in zip(
                np.split(values, ends, axis=1), self.groups, strict=True
            )
        ]


def lay_out(layers: list[Modes], wide: bool = False) -> Slots:
    """Slots of the stable modes of all layers; ``wide`` as in `Slots`."""
    # A state there is, even if no layer has one.
    layers = layers or [Modes.make([], [], [], 1)]
    rows = [_of_channel(modes, channel) for modes in layers for channel in range(modes.channels)]
    counts = np.array([max(len(row), 1) for row in rows])
    groups: list[tuple[int, int]] = []
    owners: list[Int] = []
    values: list[Complex] = []
    for width, least in _widths(counts):
        (these,) = np.nonzero((counts > least) & (counts <= width))
        groups.append((len(these), width))
        owners.append(these)
        filled = np.zeros((len(these), width, 5), np.complex128)
        filled[:, :, :2] = _AT_ONCE
        for index, owner in enumerate(these):
            filled[index, : len(rows[owner])] = rows[owner]
        values.append(filled.transpose(2, 1, 0).reshape(5, -1))
    numbers = np.concatenate(values, axis=1)
    return Slots(groups, np.concatenate(owners), numbers[:2], numbers[2:4], numbers[4] != 0, wide)


def _of_channel(modes: Modes, channel: int) -> Complex:
    """(slots, 5) of one channel: logarithms of both poles, both weights, whether it is a pair."""
    first, last = np.searchsorted(modes.channel, [channel, channel + 1])
    log_pole, weight = modes.log_pole[first:last], modes.weight[first:last]
    real = modes.is_real[first:last]
    pairs = np.stack([log_pole, log_pole, weight, weight, np.ones_like(weight)], axis=1)[~real]
    # An odd real pole leaves half a slot that stays at zero.
    poles = np.append(log_pole[real], [_AT_ONCE] * (int(real.sum()) % 2)).reshape(-1, 2)
    weights = np.append(weight[real], [0.0] * (int(real.sum()) % 2)).reshape(-1, 2)
    reals = np.concatenate([poles, weights, np.zeros((len(poles), 1))], axis=1)
    return np.concatenate([pairs, reals])


def _widths(counts: Int) -> list[tuple[int, int]]:
    """The groups that cost least: their slots per channel, and those of the group below."""
    most = _MOST_FILLED * int(counts.sum())
    group_cost = _GROUP_COST
    cost, slots, groups = _cheapest(counts, group_cost)
    alone = int(counts.max()) * len(counts)
    if alone <= most and _GROUP_COST + alone <= cost + _SORTING_COST:
        return [(int(counts.max()), 0)]
    while slots > most:
        # Cheaper groups are more of them; where they cost nothing, nothing is filled up.
        group_cost //= 3
        _, slots, groups = _cheapest(counts, group_cost)
    return groups


def _cheapest(counts: Int, group_cost: int) -> tuple[int, int, list[tuple[int, int]]]:
    """Cost and slots of the cheapest groups, and these: dynamic programming over the counts."""
    found, channels = np.unique(counts, return_counts=True)
    best: list[tuple[int, int, list[tuple[int, int]]]] = [(0, 0, [])]
    for end in range(1, len(found) + 1):
        width = int(found[end - 1])
        options = []
        for start in range(end):
            cost, slots, before = best[start]
            added = width * int(channels[start:end].sum())
            least = int(found[start - 1]) if start else 0
            options.append((cost + group_cost + added, slots + added, [*before, (width, least)]))
        best.append(min(options, key=lambda option: option[0]))
    return best[-1]


def receive(g: GraphBuilder, slots: Slots, state: ir.Value) -> ir.Value:
    """The packed state as it comes into the graph, (batch, floats), as (batch, 2, ...)."""
    if slots.wide:
        parts = [_cast(g, part, slots) for part in g.split(state, [2 * slots.count] * 2)]
        state = g.add("Add", *parts)
    return unpack(g, slots, state)


def send(g: GraphBuilder, slots: Slots, states: ir.Value) -> ir.Value:
    """The inverse of `receive`."""
    states = pack(g, slots, states)
    if not slots.wide:
        return states
    first = _narrow(g, states, slots)
    rest = g.add("Sub", states, _cast(g, first, slots))
    return g.concat([first, _narrow(g, rest, slots)])


def _cast(g: GraphBuilder, x: ir.Value, slots: Slots) -> ir.Value:
    """A float32 value in the type of the states."""
    return g.add("Cast", x, to=ir.DataType.DOUBLE) if slots.wide else x


def _narrow(g: GraphBuilder, x: ir.Value, slots: Slots) -> ir.Value:
    """A value in the type of the states as float32."""
    return g.add("Cast", x, to=ir.DataType.FLOAT) if slots.wide else x


def unpack(g: GraphBuilder, slots: Slots, packed: ir.Value) -> ir.Value:
    """(batch, 2 slots) as (batch, 2, *slots.shape)."""
    return g.reshape(packed, [0, 2, *slots.shape])


def pack(g: GraphBuilder, slots: Slots, states: ir.Value) -> ir.Value:
    """The inverse of `unpack`."""
    return g.reshape(states, [0, 2 * slots.count])


def decay(g: GraphBuilder, slots: Slots, states: ir.Value, steps: int = 1) -> ir.Value:
    """(batch, 2, ...): ``A^steps x``, as ``x + (A - I) x``, so that float32 shifts no slow pole."""
    p, q = (g.constant(each.reshape(2, *slots.shape), name, slots.dtype, role="pole")
            for each, name in zip(slots.power(steps), "pq", strict=True))  # fmt: skip
    crossed = g.add("Gather", states, g.constant([1, 0], "swap"), axis=1)
    change = g.add("Add", g.add("Mul", states, p), g.add("Mul", crossed, q))
    return g.add("Add", states, change)


def outputs(g: GraphBuilder, slots: Slots, states: ir.Value) -> ir.Value:
    """(batch, channels): the output of each channel, the sum of its states."""
    parts = []
    each = g.split(states, [channels * width for channels, width in slots.groups])
    for part, (channels, width) in zip(each, slots.groups, strict=True):
        rows = g.reshape(part, [0, 2 * width, channels])
        # A product with ones: many times quicker than ReduceSum.
        ones = g.constant(np.ones((1, 2 * width)), "ones", slots.dtype)
        parts.append(g.add("MatMul", ones, rows))
    sums = _in_order(g, slots, g.concat(parts), axis=2)
    return _narrow(g, g.reshape(sums, [0, len(slots.order)]), slots)


def _in_order(g: GraphBuilder, slots: Slots, values: ir.Value, axis: int) -> ir.Value:
    """Channels as they stand in the slots, in their own order."""
    if slots.in_order:
        return values
    return g.add("Gather", values, g.constant(np.argsort(slots.order), "place"), axis=axis)


def spread(g: GraphBuilder, slots: Slots, u: ir.Value) -> ir.Value:
    """(batch, 2, ...): ``B u`` of inputs u (batch, channels)."""
    entering = slots.entering().reshape(2, *slots.shape)
    weight = g.constant(entering, "b", slots.dtype, role="mode weight")
    u = _cast(g, u, slots)
    if len(slots.groups) == 1:
        if not slots.in_order:
            u = g.add("Gather", u, g.constant(slots.order, "order"), axis=1)
        return g.add("Mul", g.reshape(u, [0, 1, 1, -1]), weight)
    u = g.add("Gather", u, g.constant(slots.owner[None], "owner"), axis=1)
    return g.add("Mul", u, weight)


def leaving(
    g: GraphBuilder, slots: Slots, states: ir.Value, powers: Float, form: Form | None = None
) -> ir.Value:
    """(batch, T, channels): what states (batch, 2, ...) add to T outputs.

    ``powers`` (T, 2, slots) are `Slots.leaving` of the steps from the states to each output.
    """
    parts = []
    each = g.split(states, [channels * width for channels, width in slots.groups], axis=2)
    for part, matrix, (channels, width) in zip(
        each, _matrices(slots, powers), slots.groups, strict=True
    ):
        part = g.reshape(part, [0, 2 * width, channels])
        parts.append(per_channel(g, part, matrix, form, slots.dtype))
    return _in_order(g, slots, _narrow(g, g.concat(parts), slots), axis=-1)


def entering(
    g: GraphBuilder, slots: Slots, inputs: ir.Value, powers: Float, form: Form | None = None
) -> ir.Value:
    """(batch, 2, ...): what inputs (batch, T, channels) leave in the states.

    ``powers`` (T, 2, slots) are `Slots.entering` of the steps from each input to the states.
    """
    inputs = _cast(g, inputs, slots)
    if not slots.in_order:
        inputs = g.add("Gather", inputs, g.constant(slots.order, "order"), axis=-1)
    parts = []
    each = g.split(inputs, [channels for channels, _ in slots.groups])
    for part, matrix, (channels, width) in zip(
        each, _matrices(slots, powers), slots.groups, strict=True
    ):
        part = per_channel(g, part, matrix.transpose(1, 0, 2), form, slots.dtype)
        shape = slots.shape if len(slots.groups) == 1 else (width * channels,)
        parts.append(g.reshape(part, [0, 2, *shape]))
    return g.concat(parts)


def _matrices(slots: Slots, powers: Float) -> list[Float]:
    """(T, 2, slots) as (T, 2 width, channels) group by group."""
    parts = slots.by_group(powers.transpose(1, 2, 0))
    return [part.transpose(3, 0, 1, 2).reshape(len(powers), -1, part.shape[2]) for part in parts]
