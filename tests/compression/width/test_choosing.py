"""Features that go one by one, against least squares on the samples themselves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from s4edge.compression.width.choosing import Chosen, Reader, choose

Array = np.ndarray


def case(seed: int, features: int, heads: int, samples: int = 300) -> tuple[Array, Array, Array]:
    """Inputs (samples, features * heads), a matrix, and a sensitivity."""
    rng = np.random.default_rng(seed)
    columns = features * heads
    mixing = rng.standard_normal((columns, columns)) * np.geomspace(1, 0.1, columns)
    x = rng.standard_normal((samples, columns)) @ mixing
    root = rng.standard_normal((4, 4)) * np.geomspace(1, 0.3, 4)
    return x - x.mean(0), rng.standard_normal((4, columns)), root @ root.T


def reader(x: Array, weight: Array, counts: Array, features: int) -> Reader:
    owner = np.tile(np.arange(features), x.shape[1] // features)
    return Reader(weight, x.T @ x / len(x), counts, owner)


def lost(each: Reader, kept: Array) -> float:
    """With the best weights for the columns that are left, of inputs with a little white noise.

    What is left of the variance of the others once those that are kept are known.
    """
    n = len(each.covariance)
    covariance = each.covariance + 1e-4 * np.trace(each.covariance) / n * np.eye(n)
    stays = np.isin(each.feature, kept)
    gone = covariance[~stays][:, ~stays] - covariance[~stays][:, stays] @ np.linalg.solve(
        covariance[stays][:, stays], covariance[stays][:, ~stays]
    )
    weight = each.weight[:, ~stays]
    return float(np.trace(each.sensitivity @ weight @ gone @ weight.T))


def test_that_is_what_least_squares_lose() -> None:
    x, weight, counts = case(0, 6, 1)
    each, kept = reader(x, weight, counts, 6), np.array([0, 2, 3])
    aim = x @ weight.T
    error = aim - x[:, kept] @ np.linalg.lstsq(x[:, kept], aim, rcond=None)[0]
    found = ((error @ counts) * error).sum() / len(x)
    assert lost(each, kept) == pytest.approx(found, rel=0.05)


@pytest.mark.parametrize("heads", [1, 2])
def test_the_loss_is_that_of_refitted_layers(heads: int) -> None:
    cases = [case(seed, 6, heads) for seed in (0, 1)]
    readers = [reader(*each, 6) for each in cases]
    for width in (5, 3, 1):
        found: Chosen = choose(readers, 6, width)
        assert len(found.features) == width
        total = sum(lost(each, found.features) for each in readers)
        assert found.loss == pytest.approx(total, rel=1e-6)


def test_the_first_to_go_is_the_best_one() -> None:
    cases = [case(seed, 6, 1) for seed in (2, 3)]
    readers = [reader(*each, 6) for each in cases]
    found = choose(readers, 6, 5)
    every = [
        sum(lost(each, np.array(kept)) for each in readers)
        for kept in itertools.combinations(range(6), 5)
    ]
    assert found.loss == pytest.approx(min(every), rel=1e-6)


def test_copies_and_what_nobody_reads_go_first() -> None:
    x, weight, counts = case(4, 6, 1)
    x[:, 4] = 2 * x[:, 1] - x[:, 0]
    weight[:, 2] = 0
    found = choose([reader(x, weight, counts, 6)], 6, 4)
    assert 2 not in found.features
    assert len({0, 1, 4} & {*found.features.tolist()}) == 2
    assert found.loss < 1e-2 * choose([reader(x, weight, counts, 6)], 6, 3).loss
