"""Products of two matrices against other ways to the same, and against theorems."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from s4edge.compression.dense.factors import Affine, Factored, Moments, components, factored

Array = np.ndarray


def case(seed: int, rows: int, columns: int, samples: int = 400) -> tuple[Affine, Array, Array]:
    """A layer, inputs (samples, columns) of its own mean and covariance, and a sensitivity."""
    rng = np.random.default_rng(seed)
    layer = Affine(rng.standard_normal((rows, columns)), rng.standard_normal(rows))
    mixing = rng.standard_normal((columns, columns)) * np.geomspace(1, 0.05, columns)
    x = rng.standard_normal((samples, columns)) @ mixing.T + rng.standard_normal(columns)
    root = rng.standard_normal((rows, rows)) * np.geomspace(1, 0.2, rows)
    return layer, x, root @ root.T


def moments_of(x: Array, reached: Array) -> Moments:
    a, b = x - x.mean(0), reached - reached.mean(0)
    n = len(x)
    return Moments(x.mean(0), reached.mean(0), a.T @ a / n, a.T @ b / n, b.T @ b / n)


def answers(layer: Affine, x: Array) -> Array:
    return x @ layer.weight.T + layer.bias


def answers_of_product(product: Factored, x: Array) -> Array:
    return x @ product.right.T @ product.left.T + product.bias


def loss(difference: Array, sensitivity: Array | None) -> float:
    """Mean over samples."""
    weighed = difference if sensitivity is None else difference @ sensitivity
    return float((weighed * difference).sum() / len(difference))


SHAPES = [(5, 5, 2), (8, 4, 2), (4, 9, 3), (6, 6, 1), (12, 7, 5)]


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize(("rows", "columns", "rank"), SHAPES)
def test_nothing_of_that_rank_is_closer(rows: int, columns: int, rank: int, weighed: bool) -> None:
    layer, x, sensitivity = case(rows, rows, columns)
    counts = sensitivity if weighed else None
    product = factored(layer, moments_of(x, x), rank, counts)
    assert product.left.shape == (rows, rank)
    assert product.right.shape == (rank, columns)
    aim = answers(layer, x)
    # Eckart and Young, with other roots than the code's.
    gram = np.eye(rows)
    if counts is not None:
        gram = counts + 1e-3 * np.trace(counts) / rows * np.eye(rows)
    covariance = np.cov(x.T, bias=True)
    whitened = scipy.linalg.cholesky(gram) @ layer.weight @ scipy.linalg.cholesky(covariance).T
    least = float(np.square(scipy.linalg.svdvals(whitened)[rank:]).sum())
    assert loss(answers_of_product(product, x) - aim, gram) == pytest.approx(least, rel=1e-6)
    rng = np.random.default_rng(1)
    # Alternating least squares from random starts, and anything nearby.
    for _ in range(5):
        right = rng.standard_normal((rank, columns))
        for _ in range(40):
            inner = (x - x.mean(0)) @ right.T
            left = np.linalg.lstsq(inner, aim - aim.mean(0), rcond=None)[0].T
            pulled = np.linalg.solve(left.T @ gram @ left, left.T @ gram @ layer.weight)
            right = pulled
        other = Factored(left, right, aim.mean(0) - left @ (right @ x.mean(0)))
        assert loss(answers_of_product(other, x) - aim, gram) >= least * (1 - 1e-9)
        close = Factored(
            product.left + 1e-3 * rng.standard_normal(product.left.shape),
            product.right + 1e-3 * rng.standard_normal(product.right.shape),
            product.bias + 1e-3 * rng.standard_normal(rows),
        )
        assert loss(answers_of_product(close, x) - aim, gram) > least
    if rank < min(rows, columns):
        plain_u, plain_s, plain_v = np.linalg.svd(layer.weight)
        plain = (plain_u[:, :rank] * plain_s[:rank]) @ plain_v[:rank]
        shifted = (x - x.mean(0)) @ (plain - layer.weight).T
        assert loss(shifted, gram) > least


@pytest.mark.parametrize(("rows", "columns", "rank"), SHAPES)
def test_full_rank_changes_nothing(rows: int, columns: int, rank: int) -> None:
    layer, x, sensitivity = case(3, rows, columns)
    for singular in (False, True):
        seen = x * (np.arange(columns) < 2) if singular else x
        product = factored(layer, moments_of(seen, seen), min(rows, columns), sensitivity)
        np.testing.assert_allclose(product.left @ product.right, layer.weight, atol=1e-9)
        np.testing.assert_allclose(product.bias, layer.bias, atol=1e-9)


def test_inputs_of_few_dimensions_need_no_more() -> None:
    layer, x, sensitivity = case(0, 9, 8)
    seen = x[:, :3] @ np.random.default_rng(2).standard_normal((3, 8))
    product = factored(layer, moments_of(seen, seen), 3, sensitivity)
    aim = answers(layer, seen)
    np.testing.assert_allclose(
        answers_of_product(product, seen), aim, atol=1e-4 * np.abs(aim).max()
    )
    nothing = np.ones((4, 8))
    product = factored(layer, moments_of(nothing, nothing), 2, sensitivity)
    np.testing.assert_allclose(
        answers_of_product(product, nothing), answers(layer, nothing), atol=1e-9
    )


def test_what_earlier_layers_changed_is_made_up_for() -> None:
    layer, x, _ = case(1, 7, 6, samples=3000)
    rng = np.random.default_rng(5)
    # Gains that a layer before has lost, an offset, and noise.
    reached = x * rng.uniform(0.5, 1.5, 6) + 0.7 + 0.02 * rng.standard_normal(x.shape)
    product = factored(layer, moments_of(x, reached), 4)
    aim = answers(layer, x)
    found = loss(answers_of_product(product, reached) - aim, None)
    # Reduced-rank regression by least squares on the samples themselves.
    centred = reached - reached.mean(0)
    best = np.linalg.lstsq(centred, aim - aim.mean(0), rcond=None)[0]
    _, _, axes = np.linalg.svd(centred @ best, full_matrices=False)
    least = loss(centred @ best @ axes[:4].T @ axes[:4] - (aim - aim.mean(0)), None)
    assert least * (1 - 1e-9) <= found < 1.02 * least
    blind = factored(layer, moments_of(x, x), 4)
    assert found < 0.2 * loss(answers_of_product(blind, reached) - aim, None)


def test_components_come_in_order() -> None:
    layer, x, sensitivity = case(4, 6, 9)
    found = components(layer.weight, np.cov(x.T), sensitivity)
    assert (np.diff(found.energy) <= 0).all()
    np.testing.assert_allclose(np.linalg.norm(found.directions, axis=0), 1)
    np.testing.assert_allclose(found.onto @ found.directions, np.eye(6), atol=1e-9)
