from __future__ import annotations

import mpmath
import numpy as np
import pytest
from random_systems import FAMILIES, Rng, decays, merged, real_gramian, weights

from s4edge.systems.generators import Generators
from s4edge.systems.gramians import cauchy_factor, real_factor

DISTINCT = sorted(set(FAMILIES) - {"repeated", "mixed"})  # mixed has weights of 0


def exact_gramian(log_pole: np.ndarray, generator: np.ndarray) -> mpmath.matrix:
    """Inside ``workdps``."""
    logs = [mpmath.mpc(z.real, mpmath.pi if z.imag == np.pi else z.imag) for z in log_pole.tolist()]
    g = [mpmath.mpc(z) for z in generator.tolist()]
    n = len(g)
    P = mpmath.matrix(n, n)
    for i in range(n):
        for j in range(n):
            P[i, j] = g[i] * g[j].conjugate() / -mpmath.expm1(logs[i] + logs[j].conjugate())
    return P


def to_numpy(matrix: mpmath.matrix) -> np.ndarray:
    return np.array([[complex(x) for x in row] for row in matrix.tolist()])


def system(family: str, seed: int, n: int = 8) -> tuple[np.ndarray, np.ndarray]:
    modes = FAMILIES[family](np.random.default_rng(seed), n)
    return modes.log_pole, np.sqrt(modes.weight)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("family", FAMILIES)
def test_factor_gives_the_gramian_entry_by_entry(family: str, seed: int) -> None:
    log_pole, generator = system(family, seed)
    with mpmath.workdps(40):
        expected = to_numpy(exact_gramian(log_pole, generator))
    L = cauchy_factor(log_pole[None], generator[None])[0][0]
    np.testing.assert_allclose(L @ L.conj().T, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("family", DISTINCT)
def test_every_entry_of_the_factor_is_accurate_however_small(family: str, seed: int) -> None:
    log_pole, generator = system(family, seed)
    factors, pivots = cauchy_factor(log_pole[None], generator[None])
    order = pivots[0]
    with mpmath.workdps(120):
        expected = to_numpy(mpmath.cholesky(exact_gramian(log_pole[order], generator[order])))
    np.testing.assert_allclose(factors[0][order], expected, rtol=1e-13, atol=0)


def test_factor_of_close_poles_is_accurate_far_below_double_precision() -> None:
    # Six poles within 1e-6 of each other: the last pivot is about 1e-60 of the first.
    rng = np.random.default_rng(0)
    log_pole = (-0.1 + 1j) * (1 + 1e-6 * rng.normal(size=6))
    generator = np.ones(6, dtype=complex)
    factors, pivots = cauchy_factor(log_pole[None], generator[None])
    order = pivots[0]
    with mpmath.workdps(120):
        expected = to_numpy(mpmath.cholesky(exact_gramian(log_pole[order], generator[order])))
    assert abs(expected[-1, -1]) < 1e-25 * abs(expected[0, 0])
    np.testing.assert_allclose(factors[0][order], expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_pivot_is_the_largest_that_is_left(family: str) -> None:
    log_pole, generator = system(family, 0, 16)
    factors, pivots = cauchy_factor(log_pole[None], generator[None])
    L = np.abs(factors[0][pivots[0]])
    pivot = np.diag(L)
    assert (np.sort(pivots[0]) == np.arange(16)).all()
    assert (np.triu(L, 1) == 0).all()
    assert (pivot[1:] <= pivot[:-1] * (1 + 1e-12)).all()
    assert (pivot * (1 + 1e-12) >= L).all()


def test_many_systems_at_once_are_factored_one_by_one() -> None:
    rng = np.random.default_rng(1)
    log_pole = -decays(rng, (5, 7)) + 1j * rng.uniform(0, np.pi, (5, 7))
    generator = weights(rng, (5, 7), 4)
    factors, pivots = cauchy_factor(log_pole, generator)
    for index in range(5):
        alone, order = cauchy_factor(log_pole[index : index + 1], generator[index : index + 1])
        assert (pivots[index] == order[0]).all()
        np.testing.assert_allclose(factors[index], alone[0], rtol=1e-13)


def test_zero_generators_and_repeated_poles_give_zero_columns() -> None:
    log_pole = np.array([[-0.1 + 1j, -0.1 + 1j, -0.2 + 2j, -0.3]])
    generator = np.array([[1, 2j, 0, 3]], dtype=complex)
    L = cauchy_factor(log_pole, generator)[0][0]
    assert np.isfinite(L).all()
    assert np.count_nonzero(np.linalg.norm(L, axis=0)) == 2
    assert (L[2] == 0).all()


@pytest.mark.parametrize("decay", [[150, 160, 170, 180, 190, 600], [362.5] * 6])
def test_very_fast_poles_neither_overflow_nor_give_nan(decay: list[float]) -> None:
    # Elimination leaves generators of products of |a|, below the smallest normal number.
    log_pole = -np.array([decay], dtype=float) + 1j * np.arange(6)
    generator = np.ones((1, 6), dtype=complex)
    L = cauchy_factor(log_pole, generator)[0][0]
    np.testing.assert_allclose(L @ L.conj().T, np.ones((6, 6)), rtol=1e-12)


def test_no_poles() -> None:
    factors, pivots = cauchy_factor(np.zeros((3, 0), complex), np.zeros((3, 0), complex))
    assert factors.shape == (3, 0, 0)
    assert pivots.shape == (3, 0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("family", DISTINCT)
def test_real_factor_gives_the_real_gramian(family: str, seed: int) -> None:
    # `Generators` splits the weights as the reference does.
    modes = FAMILIES[family](np.random.default_rng(seed), 8)
    with mpmath.workdps(40):
        P, expected_signs = real_gramian(merged(modes))
        expected = to_numpy(P).real
    generators = Generators.of(modes)
    signs, R = generators.signs, generators.factor()[0]
    size = np.sqrt(np.diag(expected))
    assert (signs[0] == expected_signs).all()
    assert (np.abs(R.T @ R - expected) <= 1e-13 * np.outer(size, size)).all()


def test_real_factor_is_the_covariance_of_the_documented_coordinates() -> None:
    # Impulse response of sqrt(2) Re x, sqrt(2) Im x and the real states, summed over time.
    rng = np.random.default_rng(2)
    pair, real = -decays(rng, 3, 0.1) + 1j * np.array([0.3, 1.5, 3.0]), np.array([-0.2, -0.4])
    real = real + 1j * np.array([0, np.pi])
    b, c = weights(rng, 3), np.array([1.0, -2.0])
    R = real_factor(pair[None], b[None], real[None], c[None])[0]
    steps = np.arange(400)[:, None]
    x = np.exp(pair * steps) * b
    states = np.hstack([np.sqrt(2) * x.real, np.sqrt(2) * x.imag, np.exp(real * steps).real * c])
    np.testing.assert_allclose(R.T @ R, states.T @ states, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_the_real_factor_descend_by_and_large(family: str) -> None:
    rng: Rng = np.random.default_rng(3)
    for _ in range(5):
        size = np.linalg.norm(Generators.of(FAMILIES[family](rng, 8)).factor()[0], axis=1)
        size = size[size > 1e-12 * size[0]]
        largest_after = np.maximum.accumulate(size[::-1])[::-1]
        assert (largest_after <= 10 * size).all()
