"""A compression's layers, before and after, with what its history tells of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from s4edge.arrays import Float, Int
from s4edge.compression.states.unit import Unit, units_of
from s4edge.errors import S4EdgeError
from s4edge.model.history import Compression, ReducedLayer
from s4edge.model.sequence_model import SequenceModel
from s4edge.systems.h2 import h2_distance
from s4edge.systems.modes import Modes


@dataclass(frozen=True)
class LayerPair:
    """One layer's systems in one direction, before and after, and what its history tells."""

    before: Unit
    after: Unit
    told: ReducedLayer

    @property
    def name(self) -> str:
        """The layer's."""
        return self.told.name

    def channel(self, name: str) -> Float:
        """(channels,) numbers of the history; nan where nothing is known."""
        return np.array([np.nan if x is None else x for x in getattr(self.told, name)], dtype=float)

    def largest(self, name: str) -> float:
        """Of those numbers that are known; nan where none is."""
        values = self.channel(name)
        known = values[~np.isnan(values)]
        return float(known.max()) if len(known) else float("nan")

    @property
    def orders_before(self) -> Int:
        """(channels,) real states."""
        return self.before.stable.real_states + self.before.kept_states

    @property
    def orders(self) -> Int:
        """(channels,) real states that were kept."""
        return np.asarray(self.told.channel_real_states, dtype=np.int64)

    @property
    def reduced(self) -> Int:
        """The channels that lost states or were changed otherwise."""
        changed = self.channel("channel_h2_error") != 0
        return np.flatnonzero((self.orders < self.orders_before) | changed)

    @property
    def h2_norm(self) -> Float:
        """(channels,) of the stable modes before."""
        nothing = Modes.make([], [], [], self.before.stable.channels)
        with threadpool_limits(1):
            return h2_distance(self.before.stable, nothing)


@dataclass(frozen=True)
class ReducedChannel:
    """A reduced channel, by its H2 error relative to its kernel's H2 norm."""

    layer: LayerPair
    index: int
    error: float


def layer_pairs(before: SequenceModel, after: SequenceModel, entry: Compression) -> list[LayerPair]:
    """The diagonal systems of two models.

    Raises:
        S4EdgeError: ``entry`` does not tell of how the one became the other.
    """
    old, new = units_of(before), units_of(after)
    names = [[unit.name for unit in units] for units in (old, new)]
    # Of other kinds of systems there is nothing to show.
    told = [layer for layer in entry.layers if layer.name in names[0]]
    if not names[0] == names[1] == [layer.name for layer in told]:
        raise S4EdgeError(
            "the report's two models do not belong together: their layers have other names"
        )
    return [LayerPair(*each) for each in zip(old, new, told, strict=True)]


def worst_first(layers: list[LayerPair]) -> list[ReducedChannel]:
    """All reduced channels."""
    out = []
    for layer in layers:
        error, norm = layer.channel("channel_h2_error"), layer.h2_norm
        for h in layer.reduced:
            # What had no output has lost nothing.
            share = error[h] / norm[h] if norm[h] else 0.0
            out.append(ReducedChannel(layer, int(h), float(share)))
    return sorted(out, key=lambda channel: -channel.error)
