"""How many states each channel may keep: a total is spent where the model's output needs it.

Each channel has a curve of error against order. A greedy walk along the lower convex hulls of all
curves takes the steepest step first; for every total that it passes, no other choice of orders on
the hulls has a smaller sum of errors.

Source: the allocation of bits over quantizers, Y. Shoham and A. Gersho (1988).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from s4edge.arrays import Float, Int


@dataclass(frozen=True)
class Curves:
    """Squared errors of many channels at many orders.

    Attributes:
        order: (channels, orders) real states, ascending.
        error: (channels, orders), nan where a channel has no such order.
    """

    order: Int
    error: Float


@dataclass(frozen=True)
class Walk:
    """The greedy walk over all channels.

    Attributes:
        total: (steps + 1,) real states after each step.
        error: (steps + 1,) sum of the squared errors.
        channel: (steps,) the channel that grows at each step.
        order: (steps,) to which order.
        start: (channels,) the orders at the start.
    """

    total: Int
    error: Float
    channel: Int
    order: Int
    start: Int

    def orders_within(self, total: int) -> Int:
        """(channels,) orders that spend at most a total of real states.

        A channel whose next step is too large stays as it is; what is left goes to others.
        """
        orders, left = self.start.copy(), total - int(self.start.sum())
        stopped = np.zeros(len(orders), dtype=bool)
        for channel, order in zip(self.channel, self.order, strict=True):
            cost = order - orders[channel]
            if stopped[channel]:
                continue
            if cost <= left:
                orders[channel], left = order, left - cost
            else:
                stopped[channel] = True
        return orders

    def smallest_total(self, error: float) -> int | None:
        """The smallest total whose sum of squared errors is at most ``error``; None if none is."""
        enough = np.flatnonzero(self.error <= error)
        return int(self.total[enough[0]]) if len(enough) else None


def walk(curves: Curves) -> Walk:
    """Take all steps of all lower convex hulls, steepest first."""
    steps = []
    start, first = np.zeros(len(curves.error), np.int64), 0.0
    for channel, (row, orders) in enumerate(zip(curves.error, curves.order, strict=True)):
        known = np.flatnonzero(np.isfinite(row))
        # What is larger than at a smaller order is not worth its states.
        falling = np.minimum.accumulate(row[known])
        hull = lower_hull(orders[known], falling)
        start[channel] = orders[known[hull[0]]]
        first += falling[hull[0]]
        for before, after in pairwise(hull):
            gain = falling[before] - falling[after]
            if gain > 0:
                order = orders[known[after]]
                cost = order - orders[known[before]]
                steps.append((gain / cost, gain, int(cost), channel, int(order)))
    # Stable: the steps of a channel stay in their order.
    steps.sort(key=lambda step: -step[0])
    gains = np.array([0.0, *(step[1] for step in steps)])
    costs = np.array([start.sum(), *(step[2] for step in steps)], dtype=np.int64)
    return Walk(
        costs.cumsum(),
        np.maximum(first - gains.cumsum(), 0),
        np.array([step[3] for step in steps], dtype=np.int64),
        np.array([step[4] for step in steps], dtype=np.int64),
        start,
    )


def lower_hull(x: Int, y: Float) -> list[int]:
    """Indices of the points on the lower convex hull, ``x`` ascending."""
    hull: list[int] = []
    for i in range(len(x)):
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            if (y[b] - y[a]) * (x[i] - x[a]) < (y[i] - y[a]) * (x[b] - x[a]):
                break
            hull.pop()
        hull.append(i)
    return hull
