"""Which ranks the dense layers of a model get: multiply-adds are spent where the output needs them.

A layer costs ``rank * (rows + columns)`` multiply-adds, or what it costs as it is. The walk along
all layers' curves of predicted error is the one that spends states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from s4edge.arrays import Float, Int
from s4edge.compression.dense.fitting import Ranks
from s4edge.compression.dense.places import Place
from s4edge.compression.dense.seen import Predicted
from s4edge.compression.states.allocation import Curves, Walk, walk
from s4edge.model.configuration import ModelConfig


@dataclass(frozen=True)
class Spending:
    """The walk over the layers of a model.

    Attributes:
        places: its dense layers.
        runs: (places,) of each for one run of the slowest.
        walk: over multiply-adds of so many runs each.
    """

    places: list[Place]
    runs: Int
    walk: Walk

    @property
    def total(self) -> int:
        """Multiply-adds of all layers as they are."""
        return int(sum(n * each.whole_cost for n, each in zip(self.runs, self.places, strict=True)))

    def ranks_within(self, total: int) -> Ranks:
        """Of the layers to be taken, to spend at most so many multiply-adds on all."""
        spent = self.walk.orders_within(total) // self.runs
        return {
            place: int(cost) // place.cost(1)
            for place, cost in zip(self.places, spent, strict=True)
            if cost < place.whole_cost
        }


def spending(config: ModelConfig, predicted: Mapping[Place, Predicted]) -> Spending:
    """The walk, from what every rank of each layer is predicted to lose."""
    places, slowest = list(predicted), config.periods[-1]
    runs = np.array([slowest // each.period for each in places], dtype=np.int64)
    most = max(each.largest_rank for each in places) + 1
    order = np.zeros((len(places), most), np.int64)
    error: Float = np.full((len(places), most), np.nan)
    for index, (place, lost) in enumerate(predicted.items()):
        count = place.largest_rank
        ranks = np.arange(1, count + 1)
        order[index, : count + 1] = [
            *(place.cost(rank) for rank in ranks.tolist()),
            place.whole_cost,
        ]
        error[index, : count + 1] = [*lost.output[ranks], 0.0]
    return Spending(places, runs, walk(Curves(order * runs[:, None], error)))
