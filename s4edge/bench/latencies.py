"""Any number of latencies in bounded memory: a histogram fine enough for percentiles."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from s4edge.json_codec import decode, encode

# A bin is 0.25 % wide, so that no percentile is further off than that. From 10 ns to 3 hours.
RESOLUTION = 0.0025
_LOG_WIDTH = math.log1p(RESOLUTION)
_FLOOR_NS = 10.0
_BINS = math.ceil(math.log(1e13 / _FLOOR_NS) / _LOG_WIDTH)
# Bars of histograms for people are 20 bins, 5.1 %, wide and the same for every model and board.
_BINS_A_BAR = 20
# Latencies that wait to be sorted into bins: sorting them one by one would cost as much as a run.
_WAITING = 4096


class Latencies:
    """Latencies in ns. Least, greatest, sum and number are exact, percentiles to `RESOLUTION`."""

    def __init__(self) -> None:
        # Filled, not only allocated, so that all memory is there from the beginning.
        self._counts = np.full(_BINS, 0, np.int64)
        self._waiting = np.full(_WAITING, 0, np.int64)
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._counts.fill(0)
        self._filled = 0
        self._runs = 0
        self._total = 0
        self._least = math.inf
        self._greatest = 0

    def add(self, nanoseconds: int) -> None:
        """Take in one latency."""
        if self._filled == _WAITING:
            self._sort_in()
        self._waiting[self._filled] = nanoseconds
        self._filled += 1

    def summary(self) -> Summary:
        """Give what was taken in since the last `clear`."""
        self._sort_in()
        (used,) = np.nonzero(self._counts)
        return Summary(
            runs=self._runs,
            total_ns=self._total,
            least_ns=int(self._least) if self._runs else 0,
            greatest_ns=self._greatest,
            bins=tuple(used.tolist()),
            counts=tuple(self._counts[used].tolist()),
        )

    def _sort_in(self) -> None:
        if not self._filled:
            return
        # A broken clock may stand still or go back; no run takes less than nothing.
        values = np.maximum(self._waiting[: self._filled], 1)
        bins = (np.log(values / _FLOOR_NS) / _LOG_WIDTH).astype(np.int64)
        self._counts += np.bincount(np.clip(bins, 0, _BINS - 1), minlength=_BINS)
        self._runs += self._filled
        self._total += int(values.sum())
        self._least = min(self._least, int(values.min()))
        self._greatest = max(self._greatest, int(values.max()))
        self._filled = 0


@dataclasses.dataclass(frozen=True)
class Summary:
    """What some runs took.

    Attributes:
        runs: how many there were.
        total_ns: the sum of their latencies.
        least_ns: the quickest, 0 without runs.
        greatest_ns: the slowest.
        bins: the histogram's bins that are not empty, in order.
        counts: runs in each of them.
    """

    runs: int = 0
    total_ns: int = 0
    least_ns: int = 0
    greatest_ns: int = 0
    bins: Sequence[int] = ()
    counts: Sequence[int] = ()

    def to_json(self) -> dict[str, Any]:
        """Give the attributes as one JSON object."""
        said: dict[str, Any] = encode(self)
        return said

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Summary:
        """Undo `to_json`."""
        summary: Summary = decode(cls, found)
        return summary

    def plus(self, other: Summary) -> Summary:
        """Give the summary of both's runs."""
        if not (self.runs and other.runs):
            return self if self.runs else other
        counts = dict(zip(self.bins, self.counts))
        for position, count in zip(other.bins, other.counts):
            counts[position] = counts.get(position, 0) + count
        bins = sorted(counts)
        return Summary(
            self.runs + other.runs,
            self.total_ns + other.total_ns,
            min(self.least_ns, other.least_ns),
            max(self.greatest_ns, other.greatest_ns),
            bins,
            [counts[position] for position in bins],
        )

    @property
    def mean_us(self) -> float:
        """The mean in µs, exact."""
        return self.total_ns / self.runs / 1e3

    def percentile_us(self, percent: float) -> float:
        """Give the latency in µs that ``percent`` of the runs do not exceed."""
        above = np.cumsum(self.counts)
        wanted = percent / 100 * self.runs
        place = min(int(np.searchsorted(above, wanted)), len(self.bins) - 1)
        # Within a bin as though its runs lay evenly.
        within = (wanted - (above[place] - self.counts[place])) / self.counts[place]
        nanoseconds = _edge_ns(self.bins[place] + float(np.clip(within, 0, 1)))
        return min(max(nanoseconds, self.least_ns), self.greatest_ns) / 1e3

    def bars(self) -> tuple[list[float], list[int]]:
        """Give a coarser histogram: edges in µs, bars + 1 of them, and runs in each bar."""
        places = np.asarray(self.bins, np.int64) // _BINS_A_BAR
        first = int(places.min())
        counts = np.bincount(places - first, weights=self.counts)
        edges = [_edge_ns((first + i) * _BINS_A_BAR) / 1e3 for i in range(len(counts) + 1)]
        return edges, [int(count) for count in counts]


def _edge_ns(position: float) -> float:
    return _FLOOR_NS * math.exp(position * _LOG_WIDTH)
