from __future__ import annotations

import dataclasses
import json
import tracemalloc

import numpy as np
import pytest
from small_graph import DESCRIPTION

from s4edge.bench.latencies import RESOLUTION, Latencies, Summary
from s4edge.bench.measuring import Measured
from s4edge.runtime.description import GraphInfo


def summary(values: np.ndarray | list[int]) -> Summary:
    latencies = Latencies()
    for value in values:
        latencies.add(int(value))
    return latencies.summary()


def long_tailed(count: int) -> np.ndarray:
    """Most near 50 µs, some thousands of times slower."""
    rng = np.random.default_rng(0)
    return (50_000 * (1 + 0.2 * rng.pareto(1.5, count))).astype(np.int64)


@pytest.mark.parametrize("count", [1, 2, 37, 4096, 4097, 30_000])
def test_agrees_with_all_values_kept(count: int) -> None:
    values = long_tailed(count)
    found = summary(values)
    assert found.runs == count
    assert found.total_ns == values.sum()
    assert found.mean_us == pytest.approx(values.mean() / 1e3)
    assert (found.least_ns, found.greatest_ns) == (values.min(), values.max())
    for percent in (0, 1, 50, 90, 99, 99.9, 100):
        # Between the neighbours that any definition of a percentile chooses from.
        low, high = (
            np.percentile(values, percent, method=method) / 1e3 for method in ("lower", "higher")
        )
        below = np.sort(values)[max(int(percent / 100 * count) - 1, 0)] / 1e3
        assert min(low, below) / (1 + RESOLUTION) <= found.percentile_us(percent)
        assert found.percentile_us(percent) <= high * (1 + RESOLUTION)


def test_parts_add_up_to_the_whole() -> None:
    values = long_tailed(10_000)
    whole = summary(values)
    parts = Summary()
    for part in np.array_split(values, 7):
        parts = parts.plus(Summary.from_json(json.loads(json.dumps(summary(part).to_json()))))
    assert parts.to_json() == {
        **whole.to_json(),
        "bins": list(whole.bins),
        "counts": list(whole.counts),
    }
    assert Summary().plus(whole) == whole.plus(Summary()) == whole


def test_clear_forgets() -> None:
    latencies = Latencies()
    for value in long_tailed(5000):
        latencies.add(int(value))
    latencies.clear()
    assert latencies.summary() == Summary()
    latencies.add(1000)
    assert latencies.summary().percentile_us(50) == 1.0


def test_clocks_that_stand_still_or_go_back() -> None:
    found = summary([0, -5, -(10**12), 50_000, 60_000, 70_000])
    assert found.runs == 6
    assert found.least_ns == 1
    assert found.total_ns == 180_003
    assert found.percentile_us(99) <= 70
    assert 0 < found.percentile_us(1) <= found.percentile_us(50)


def test_hours_are_counted_too() -> None:
    found = summary([10**15, 50_000])
    assert found.greatest_ns == 10**15
    assert found.runs == sum(found.counts) == 2


def test_bars_are_the_same_for_every_model() -> None:
    values = long_tailed(20_000)
    edges, counts = summary(values).bars()
    assert len(edges) == len(counts) + 1
    assert sum(counts) == 20_000
    assert edges[0] <= values.min() / 1e3
    assert edges[-1] >= values.max() / 1e3
    assert np.allclose(np.diff(np.log(edges)), 20 * np.log1p(RESOLUTION))
    expected, _ = np.histogram(values / 1e3, edges)
    assert np.abs(expected - counts).sum() <= 2  # on an edge, to rounding
    other, _ = summary(3 * values).bars()
    assert np.intersect1d(np.round(edges, 6), np.round(other, 6)).size > 10


def test_memory_does_not_grow_with_runs() -> None:
    latencies = Latencies()
    values = [int(value) for value in long_tailed(1000)]
    for value in values * 5:
        latencies.add(value)
    tracemalloc.start()
    try:
        for _ in range(100):
            for value in values:
                latencies.add(value)
        latencies.summary()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 500_000  # 100,000 numbers alone would be 800,000


def test_time_per_sample_of_runs_that_are_not_alike() -> None:
    """Where one step in four computes the deeper layers, the median is that of the others."""
    info = GraphInfo(**{**DESCRIPTION, "period": 4})
    found = summary([1000, 1000, 1000, 9000] * 10)
    assert Measured(info, None).us_per_sample(found) == 3.0
    chunks = dataclasses.replace(info, mode="chunk", samples_per_run=8)
    assert Measured(chunks, None).us_per_sample(found) == pytest.approx(1 / 8, rel=RESOLUTION)
    alike = dataclasses.replace(info, period=1)
    assert Measured(alike, None).us_per_sample(found) == pytest.approx(1, rel=RESOLUTION)
