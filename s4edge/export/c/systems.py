"""How the systems of a layer lie in a C file: in groups of 8 lanes, of nearly the same order.

A lane holds some modes of one channel, and adds to that channel's output. Channels of many modes
have several lanes, so that lanes are equally long and hardly anything fills them up: what is
computed and kept is what orders there are, not the largest of them for all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from s4edge.arrays import Float, Int
from s4edge.export.lowering.program import Program, Recurrence
from s4edge.systems.modes import Modes, expm1

TOGETHER = 8
# What things cost on a processor that computes 8 lanes at once, in instructions: a row of pairs, of
# real poles, a group that reads and writes channels out of order, and one whose loops turn another
# number of times than those before, which is foreseen wrong.
_PAIRS, _REALS, _GROUP, _CHANGE = 14, 7, 40, 20
# What a float is worth that only fills up: the least for which all layers together have no more of
# them than 1 kB, beside which there is a running pool's padding.
_FILLED = (2, 4, 8, 16, 64)
_MOST_FILLED = 240


@dataclass(frozen=True)
class Arranged:
    """See ``systems`` in kernels.c.

    Attributes:
        weights: (numbers,) in the order in which they are read.
        counts: (2 groups,) rows of pairs and of real poles in each group.
        order: (8 groups,) the channel of each lane; None where lanes are channels in their order.
        states: floats of state.
    """

    weights: Float
    counts: Int
    order: Int | None
    states: int

    @property
    def groups(self) -> int:
        """Of 8 lanes."""
        return len(self.counts) // 2


@dataclass(frozen=True)
class _Lane:
    """Modes of a channel, by their indices."""

    channel: int
    pairs: Int
    reals: Int


_ORDERS: tuple[Callable[[_Lane], tuple[int, ...]], ...] = (
    lambda lane: (-len(lane.pairs), len(lane.reals), lane.channel),
    lambda lane: (-len(lane.pairs), -len(lane.reals), lane.channel),
    lambda lane: (len(lane.reals), -len(lane.pairs), lane.channel),
)


def arrange(program: Program) -> dict[str, Arranged]:
    """The systems of all layers, by stage."""
    found: dict[str, Arranged] = {}
    for worth in _FILLED:
        found = {stage.name: arrange_layer(systems, worth) for stage, systems in program.systems}
        held = sum(int(systems.modes.real_states.sum()) for _, systems in program.systems)
        if sum(each.states for each in found.values()) - held <= _MOST_FILLED:
            break
    return found


def arrange_layer(systems: Recurrence, worth: float) -> Arranged:
    """Cut the systems of a layer into lanes, and put down their numbers.

    Args:
        systems: of the layer.
        worth: of a float that only fills up, in instructions.
    """
    modes = systems.modes
    real = modes.is_real
    of_channel = [np.flatnonzero(modes.channel == channel) for channel in range(modes.channels)]
    split = [_Lane(c, each[~real[each]], each[real[each]]) for c, each in enumerate(of_channel)]
    most = max((len(lane.pairs) + -(-len(lane.reals) // 2) for lane in split), default=0)
    options = [
        sorted(_cut(split, longest), key=order)
        for longest in range(1, most + 1)
        for order in _ORDERS
    ]
    if all(len(lane.pairs) + len(lane.reals) for lane in split):
        options.append(split)  # each channel its lane, in order
    lanes = min(options, key=lambda each: _cost(each, worth), default=[])
    groups = [lanes[start : start + TOGETHER] for start in range(0, len(lanes), TOGETHER)]
    counts = [_rows(group) for group in groups]
    in_order = [lane.channel for lane in lanes] == list(range(modes.channels))
    order = [
        # A lane too many repeats the first, with weights of 0.
        (group[lane] if lane < len(group) else group[0]).channel
        for group in groups
        for lane in range(TOGETHER)
    ]
    if in_order:
        order = []
    return Arranged(
        weights=np.concatenate([np.zeros(0), *(_weights(modes, group) for group in groups)]),
        counts=np.array(counts, np.int64).reshape(-1),
        order=np.array(order) if order else None,
        states=TOGETHER * sum(2 * pairs + reals for pairs, reals in counts),
    )


def _cut(channels: list[_Lane], longest: int) -> list[_Lane]:
    """Lanes of at most so many pairs, two real poles being as long as a pair."""
    lanes = []
    for whole in channels:
        pairs, reals = whole.pairs, whole.reals
        while len(pairs) or len(reals):
            room = 2 * max(longest - len(pairs), 0)
            lanes.append(_Lane(whole.channel, pairs[:longest], reals[:room]))
            pairs, reals = pairs[longest:], reals[room:]
    return lanes


def _rows(group: list[_Lane]) -> tuple[int, int]:
    """Rows of pairs and of real poles."""
    return max(len(lane.pairs) for lane in group), max(len(lane.reals) for lane in group)


def _cost(lanes: list[_Lane], worth: float) -> float:
    total, before = 0.0, (-1, -1)
    for start in range(0, len(lanes), TOGETHER):
        group = lanes[start : start + TOGETHER]
        rows = _rows(group)
        held = sum(2 * len(lane.pairs) + len(lane.reals) for lane in group)
        total += _PAIRS * rows[0] + _REALS * rows[1] + _GROUP
        total += _CHANGE * sum(one != other for one, other in zip(rows, before, strict=True))
        total += worth * (TOGETHER * (2 * rows[0] + rows[1]) - held)
        before = rows
    return total


def _weights(modes: Modes, group: list[_Lane]) -> Float:
    """Of a group: row by row, each number for all lanes."""
    pairs, reals = _rows(group)
    # What fills up forgets at once and is not read.
    of_pairs, of_reals = np.zeros((pairs, 4, TOGETHER)), np.zeros((reals, 2, TOGETHER))
    of_pairs[:, 0] = of_reals[:, 0] = -1
    for index, lane in enumerate(group):
        a, w = expm1(modes.log_pole[lane.pairs]), modes.weight[lane.pairs]
        of_pairs[: len(a), :, index] = np.stack([a.real, a.imag, w.real, w.imag], axis=1)
        a, w = expm1(modes.log_pole[lane.reals]), modes.weight[lane.reals]
        of_reals[: len(a), :, index] = np.stack([a.real, w.real], axis=1)
    return np.concatenate([of_pairs.reshape(-1), of_reals.reshape(-1)])
