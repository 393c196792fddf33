"""How the systems of a layer lie in a C file: in groups of 8 lanes, of nearly the same order.

A lane holds some modes of one channel. Channels of many modes have several lanes, so that lanes are
equally long and hardly anything fills them up: what is computed and kept is what orders there are,
not the largest of them for all. The last lane of each channel gives its output; its other lanes,
which come behind these of all channels, add to it. So outputs lie in the order of lanes, not of
channels, and what reads them is changed for it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from s4edge.arrays import Float, Int
from s4edge.export.lowering.program import (
    Activation,
    Gather,
    Linear,
    Program,
    Recurrence,
    Stage,
)
from s4edge.systems.modes import Modes, expm1

TOGETHER = 8
# What things cost in instructions of a Cortex-M4: a row of pairs, of real poles, a group that reads
# channels out of order, what adds to outputs besides, and a group whose loops turn another number
# of times than those of the one before. Where 8 lanes are computed at once rows cost less; what is
# best here is within two per cent of the best there.
_PAIRS, _REALS, _GROUP, _ADDING, _CHANGE = 90, 45, 30, 60, 10
# Floats that only fill up, of all layers together: 1 kB, with a running pool's padding.
_MOST_FILLED = 240
# Of lanes that add.
_LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)


@dataclass(frozen=True)
class Arranged:
    """See ``systems`` in kernels.c.

    Attributes:
        weights: (numbers,) in the order in which they are read.
        counts: (2 groups,) rows of pairs and of real poles in each group.
        order: (8 groups,) the channel that each lane reads; None where these are all in order.
        place: (8 groups that add,) which output each lane of the last groups adds to.
        channels: (channels,) whose output each is; None where they are in order.
        states: floats of state.
    """

    weights: Float
    counts: Int
    order: Int | None
    place: Int
    channels: Int | None
    states: int

    @property
    def groups(self) -> int:
        """Of 8 lanes."""
        return len(self.counts) // 2

    @property
    def outputs(self) -> int:
        """The first groups, whose lanes give outputs."""
        return self.groups - len(self.place) // TOGETHER


@dataclass(frozen=True)
class _Lane:
    """Modes of a channel, by their indices."""

    channel: int
    pairs: Int
    reals: Int

    @property
    def length(self) -> int:
        """Rows, two real poles being as long as a pair."""
        return len(self.pairs) + -(-len(self.reals) // 2)


_Option = tuple[list[_Lane], list[_Lane]]
"""Lanes that add to outputs, and those that give them."""

_ORDERS: tuple[Callable[[_Lane], tuple[int, ...]], ...] = (
    lambda lane: (-len(lane.pairs), len(lane.reals)),
    lambda lane: (-len(lane.pairs), -len(lane.reals)),
    lambda lane: (len(lane.reals), -len(lane.pairs)),
)


def arrange(program: Program) -> dict[str, Arranged]:
    """The systems of all layers, by stage: what costs least of what fills up little enough."""
    # By how many floats fill up so far: what that costs, and what is chosen.
    found: dict[int, tuple[float, list[_Option]]] = {0: (0.0, [])}
    least: list[_Option] = []
    for _, systems in program.systems:
        options = [(option, _filling(option), _cost(option)) for option in _options(systems)]
        least.append(min(options, key=lambda each: each[1])[0])
        reached: dict[int, tuple[float, list[_Option]]] = {}
        for before, (spent, chosen) in found.items():
            for option, filling, cost in options:
                total = before + filling
                if total <= _MOST_FILLED and spent + cost < reached.get(total, (np.inf,))[0]:
                    reached[total] = spent + cost, [*chosen, option]
        found = reached
    chosen = min(found.values(), key=lambda each: each[0])[1] if found else least
    laid = zip(program.systems, chosen, strict=True)
    return {stage.name: _laid(systems.modes, option) for (stage, systems), option in laid}


def _options(systems: Recurrence) -> list[_Option]:
    """Ways to cut the systems of a layer into lanes.

    Channels of similar orders share a group, as long as the shortest of them, or the one after, or
    so on up to the longest; what is longer goes on in lanes that add, all cut to one length.
    """
    modes = systems.modes
    real = modes.is_real
    of_channel = [np.flatnonzero(modes.channel == channel) for channel in range(modes.channels)]
    split = [_Lane(c, each[~real[each]], each[real[each]]) for c, each in enumerate(of_channel)]
    options: list[_Option] = [([], split)]  # each channel its lane, in order
    for key, nth in itertools.product(_ORDERS, range(TOGETHER)):
        last: list[_Lane] = []
        rest: list[_Lane] = []
        for group in _groups(sorted(split, key=key)):
            pairs, reals = (
                sorted(len(each) for each in kind)[min(nth, len(group) - 1)]
                for kind in zip(*((lane.pairs, lane.reals) for lane in group), strict=True)
            )
            for lane in group:
                last.append(_Lane(lane.channel, lane.pairs[:pairs], lane.reals[:reals]))
                rest.append(_Lane(lane.channel, lane.pairs[pairs:], lane.reals[reals:]))
        rest = [lane for lane in rest if lane.length]
        longest = max((lane.length for lane in rest), default=0)
        options += [(_cut(rest, each), last) for each in _LENGTHS if each <= longest]
        if not rest:
            options.append(([], last))
    return options


def _laid(modes: Modes, option: _Option) -> Arranged:
    """The numbers of a layer's systems."""
    adding, last = option
    groups = [*_groups(last), *_groups(adding)]
    counts = [_rows(group) for group in groups]
    # A lane too many repeats the first, with weights of 0.
    order = [lane.channel for group in groups for lane in _filled(group)]
    channels = [lane.channel for lane in last]
    in_order = channels == sorted(channels)
    where = {channel: at for at, channel in enumerate(channels)}
    place = [where[lane.channel] for group in _groups(adding) for lane in _filled(group)]
    return Arranged(
        weights=np.concatenate([np.zeros(0), *(_weights(modes, group) for group in groups)]),
        counts=np.array(counts, np.int64).reshape(-1),
        order=None if in_order and not adding else np.array(order),
        place=np.array(place, np.int64),
        channels=None if in_order else np.array(channels),
        states=TOGETHER * sum(2 * pairs + reals for pairs, reals in counts),
    )


def _cut(lanes: list[_Lane], longest: int) -> list[_Lane]:
    """Lanes of at most so many pairs, two real poles being as long as a pair."""
    pieces: list[list[_Lane]] = []
    for lane in lanes:
        pieces.append([])
        while lane.length:
            room = 2 * max(longest - len(lane.pairs), 0)
            pieces[-1].append(_Lane(lane.channel, lane.pairs[:longest], lane.reals[:room]))
            lane = _Lane(lane.channel, lane.pairs[longest:], lane.reals[room:])
    # The lanes of a channel apart from each other: an addition waits for the one before it.
    apart = [lane for nth in itertools.zip_longest(*pieces) for lane in nth if lane is not None]
    return sorted(apart, key=_ORDERS[0])


def _groups(lanes: list[_Lane]) -> list[list[_Lane]]:
    return [lanes[start : start + TOGETHER] for start in range(0, len(lanes), TOGETHER)]


def _filled(group: list[_Lane]) -> list[_Lane]:
    return [*group, *[group[0]] * (TOGETHER - len(group))]


def _rows(group: list[_Lane]) -> tuple[int, int]:
    """Rows of pairs and of real poles."""
    return max(len(lane.pairs) for lane in group), max(len(lane.reals) for lane in group)


def _filling(option: _Option) -> int:
    """Floats of state that only fill up."""
    return sum(
        TOGETHER * (2 * rows[0] + rows[1])
        - sum(2 * len(lane.pairs) + len(lane.reals) for lane in group)
        for lanes in option
        for group in _groups(lanes)
        for rows in [_rows(group)]
    )


def _cost(option: _Option) -> float:
    """In instructions, more or less."""
    adding, last = option
    in_order = all(one.channel < other.channel for one, other in itertools.pairwise(last))
    total = 0.0 if in_order and not adding else float(_GROUP * len(_groups(last)))
    total += (_GROUP + _ADDING) * len(_groups(adding))
    before = (-1, -1)
    for group in [*_groups(last), *_groups(adding)]:
        rows = _rows(group)
        total += _PAIRS * rows[0] + _REALS * rows[1]
        total += _CHANGE * sum(one != other for one, other in zip(rows, before, strict=True))
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


def in_order_of_lanes(program: Program, arranged: dict[str, Arranged]) -> Program:
    """The same for systems whose outputs come in the order of lanes.

    Their ``D`` is in that order, too, and so are the columns of a dense layer behind them or behind
    functions of each feature of theirs; where there is something else the order is mended.
    """
    stages: list[Stage] = []
    order: dict[str, Int] = {}
    mended: dict[str, str] = {}
    for stage in program.stages:
        operation = stage.operation
        source = stage.inputs[0]
        inputs = tuple(mended.get(value, value) for value in stage.inputs)
        if isinstance(operation, Recurrence):
            channels = arranged[stage.name].channels
            if channels is not None:
                D = operation.feedthrough
                D = dataclasses.replace(D, value=D.value[channels])
                operation = dataclasses.replace(operation, feedthrough=D)
                order[stage.name] = channels
        elif source in order and isinstance(operation, Linear):
            weight = operation.weight
            weight = dataclasses.replace(weight, value=weight.value[:, order[source]])
            operation = dataclasses.replace(operation, weight=weight)
        elif source in order and isinstance(operation, Activation):
            order[stage.name] = order[source]
        stages.append(dataclasses.replace(stage, operation=operation, inputs=inputs))
        if stage.name in order and not _follow(program, stage.name):
            indices = np.argsort(order.pop(stage.name))
            mended[stage.name] = f"{stage.name}.in_order"
            gather = Gather(tuple(indices.tolist()))
            stages.append(
                dataclasses.replace(
                    stage, name=mended[stage.name], operation=gather, inputs=(stage.name,)
                )
            )
    output = mended.get(program.output, program.output)
    return dataclasses.replace(program, stages=tuple(stages), output=output)


def _follow(program: Program, value: str) -> bool:
    """Whether all that read a value can do so in any order of its features."""
    return value != program.output and all(
        isinstance(stage.operation, Linear)
        or (isinstance(stage.operation, Activation) and _follow(program, stage.name))
        for stage in program.stages
        if value in stage.inputs
    )
