"""What a method makes of the systems of one layer, order by order."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from s4edge.arrays import Float, Int
from s4edge.compression.states.base import Reduced, ReductionMethod, Use
from s4edge.compression.states.unit import Unit
from s4edge.systems.modes import Modes
from s4edge.systems.realization import Balanced


@dataclass(frozen=True)
class Candidate:
    """A unit's systems with fewer states.

    Attributes:
        modes: what takes the place of the stable modes.
        feedthrough: (channels,) the new ``D``; None for the old one.
        bound: (channels,) the method's bound of the H-infinity error, nan where it has none.
    """

    modes: Modes
    feedthrough: Float | None
    bound: Float


class Candidates:
    """Of one unit; those of one order for all channels are computed once.

    Args:
        method: of reduction.
        unit: left as it is.
        use: what is known of its inputs.
    """

    def __init__(self, method: ReductionMethod, unit: Unit, use: Use) -> None:
        self.unit = unit
        self._reduce, self._use = method.of(use), use
        self._nested = None if use.autocorrelation is None else method.nested
        self._balanced: list[Balanced] | None = None
        self._uniform: dict[int, Candidate] = {}

    def at(self, order: int) -> Candidate:
        """All channels that have more states than ``order`` at that order, from 1 up."""
        if order not in self._uniform:
            orders = np.minimum(order, self.unit.stable.real_states)
            self._uniform[order] = self._reduced(orders)
        return self._uniform[order]

    def of(self, orders: Int) -> Candidate:
        """Each channel at an order of its own, (channels,) real states."""
        unique = np.unique(orders)
        if len(unique) == 1 and unique[0]:
            return self.at(int(unique[0]))
        return self._reduced(orders)

    def _reduced(self, orders: Int) -> Candidate:
        """The method on the channels that lose states; the others as they are."""
        stable = self.unit.stable
        smaller = orders < stable.real_states
        untouched = stable.select(~smaller[stable.channel])
        bound, feedthrough = np.zeros(stable.channels), None
        some = np.flatnonzero(smaller & (orders > 0))
        parts = [untouched]
        bound[smaller & (orders == 0)] = np.nan
        if len(some):
            # The matrices are small: BLAS threads would only wait for each other.
            with threadpool_limits(1):
                result = self._cut(some, orders)
            bound[some] = result.error_bound
            if result.feedthrough is not None:
                feedthrough = self.unit.systems.D.detach().double().numpy().copy()
                feedthrough[some] += result.feedthrough
            parts.append(
                dataclasses.replace(
                    result.modes, channel=some[result.modes.channel], channels=stable.channels
                )
            )
        return Candidate(Modes.concatenate(parts), feedthrough, bound)

    def _cut(self, channels: Int, orders: Int) -> Reduced:
        """Some channels at their orders, renumbered from 0."""
        if self._nested is None:
            stable = self.unit.stable.of_channels(channels)
            return self._reduce(stable, orders[channels], self._use.of_channels(channels))
        if self._balanced is None:
            self._balanced = self._nested.balanced(self.unit.stable, self._use)
        return self._nested.cut([self._balanced[h] for h in channels], orders[channels])
