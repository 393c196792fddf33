"""What theory says of singular perturbation, modal and finite-horizon truncation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from method_checks import (
    USE,
    from_second_sample,
    kernel,
    reduce,
    slow_systems,
    well_conditioned,
)
from random_systems import FAMILIES, Dense, dense_balanced_truncation, dense_real, make
from system_strategies import systems

from s4edge.compression.states.base import Use
from s4edge.compression.states.methods.finite_horizon import (
    finite_horizon_truncation,
    horizon_factor,
)
from s4edge.compression.states.methods.modal import peak_gains
from s4edge.errors import S4EdgeError
from s4edge.systems.balancing import hankel_singular_values
from s4edge.systems.generators import Generators
from s4edge.systems.modes import Modes
from s4edge.systems.realization import balanced_systems

PROPERTY = settings(deadline=None, max_examples=40, derandomize=True)
SEEDS = pytest.mark.parametrize("seed", range(8))


# Singular perturbation


def gain(modes: Modes, extra: float = 0) -> float:
    return float((modes.weight / (1 - modes.pole)).real.sum() + extra)


@PROPERTY
@given(systems(slowest=1e-3), st.integers(0, 20))
def test_singular_perturbation_keeps_the_gain_of_constants(modes: Modes, order: int) -> None:
    result = reduce("singular-perturbation", modes, order)
    scale = np.abs(modes.weight / (1 - modes.pole)).sum()
    found = gain(result.modes, result.feedthrough[0])
    large = np.abs(result.modes.weight / (1 - result.modes.pole)).sum()
    assert abs(found - gain(modes)) <= 1e-11 * scale + 1e-14 * large


@SEEDS
def test_singular_perturbation_keeps_the_leading_singular_values(seed: int) -> None:
    modes = well_conditioned(seed)
    (sigma,) = hankel_singular_values(from_second_sample(modes))
    for order in range(1, len(sigma) + 1):
        result = reduce("singular-perturbation", modes, order)
        (left,) = hankel_singular_values(from_second_sample(result.modes))
        np.testing.assert_allclose(left, sigma[:order], rtol=1e-7, atol=1e-11 * sigma[0])


@SEEDS
def test_singular_perturbation_as_in_textbooks(seed: int) -> None:
    modes = well_conditioned(seed, 4)
    A, B, C = dense_real(modes)
    n = len(B)
    balanced, _ = dense_balanced_truncation(Dense(A, B, C @ A), n)
    for r in range(1, n):
        A, B, C = (part.real for part in balanced)
        solve = np.linalg.inv(np.eye(n - r) - A[r:, r:])
        system = Dense(
            A[:r, :r] + A[:r, r:] @ solve @ A[r:, :r],
            B[:r] + A[:r, r:] @ solve @ B[r:],
            C[:r] + C[r:] @ solve @ A[r:, :r],
        )
        first = modes.kernel(1)[0, 0] + C[r:] @ solve @ B[r:]
        expected = np.r_[first, system.kernel(99)]
        found = kernel(reduce("singular-perturbation", modes, r), 100)[0]
        np.testing.assert_allclose(found, expected, atol=1e-7 * np.abs(modes.weight).sum())


@SEEDS
def test_realizations_are_balanced(seed: int) -> None:
    modes = well_conditioned(seed)
    ((_, system),) = balanced_systems(modes)
    A, b, c = np.eye(len(system.input)) + system.delta, system.input, system.output
    for Gramian in (
        scipy.linalg.solve_discrete_lyapunov(A, np.outer(b, b)),
        scipy.linalg.solve_discrete_lyapunov(A.T, np.outer(c, c)),
    ):
        np.testing.assert_allclose(Gramian, np.diag(system.sigma), atol=1e-8 * system.sigma[0])


# Modal truncation


@pytest.mark.parametrize("family", FAMILIES)
def test_peak_gains(family: str) -> None:
    modes = FAMILIES[family](np.random.default_rng(1), 6)
    # A mode peaks around its own angle, and a fast one anywhere.
    around = np.tan(np.linspace(-1.56, 1.56, 20_001))
    for a, w, z, found in zip(
        modes.pole, modes.weight, modes.log_pole, peak_gains(modes), strict=True
    ):
        omega = np.r_[np.linspace(0, np.pi, 5001), abs(z.imag) - np.expm1(z.real) * around]
        x = np.exp(-1j * omega)
        expected = np.abs(w / (1 - a * x) + w.conjugate() / (1 - a.conjugate() * x)).max() / 2
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-300)
        assert found <= abs(w) / -np.expm1(z.real) * (1 + 1e-9)


def test_modal_truncation_keeps_the_largest_that_fit() -> None:
    # Peak gains: 10 and 4 at least of pairs, 2 and 1 of real poles.
    log_pole = [np.log(0.9) + 1j, np.log(0.5), np.log(0.9) + 2j, np.log(0.5) + np.pi * 1j]
    weight = [2, 0.5, 0.8, 1]
    modes = make(log_pole, weight)
    for order, kept in {0: [], 1: [3], 2: [0], 3: [0, 3], 4: [0, 2], 5: [0, 2, 3]}.items():
        result = reduce("modal", modes, order)
        assert sorted(result.modes.weight.real) == sorted(weight[i] for i in kept)
        left = [i for i in range(4) if i not in kept]
        assert result.error_bound[0] == pytest.approx(peak_gains(modes)[left].sum(), rel=2e-5)


# Finite horizon


@SEEDS
@pytest.mark.parametrize("horizon", [1, 2, 7, 64, 300])
def test_gramians_of_some_samples(seed: int, horizon: int) -> None:
    generators = Generators.of(well_conditioned(seed))
    A = np.eye(generators.signs.shape[1]) + generators.delta()[0]
    state, expected = generators.input()[0], 0
    for _ in range(horizon):
        expected = expected + np.outer(state, state)
        state = A @ state
    R = horizon_factor(generators, horizon)[0]
    np.testing.assert_allclose(R.T @ R, expected, atol=1e-13 * np.trace(expected))


def over(modes: Modes, result: Modes, horizon: int) -> np.ndarray:
    return np.linalg.norm(result.kernel(horizon) - modes.kernel(horizon), axis=1)


@SEEDS
def test_a_long_horizon_is_none(seed: int) -> None:
    modes = well_conditioned(seed)
    for order in range(1, int(modes.real_states[0])):
        balanced = reduce("balanced", modes, order).modes
        result = finite_horizon_truncation(modes, np.array([order]), Use(horizon=100_000)).modes
        np.testing.assert_allclose(result.kernel(500), balanced.kernel(500), atol=1e-9)


@pytest.mark.parametrize(("horizon", "gain"), [(20, 0.7), (100, 0.9)])
def test_a_short_horizon_comes_closer_over_it(horizon: int, gain: float) -> None:
    modes = slow_systems(np.random.default_rng(0), 60)
    orders = np.full(modes.channels, 6)
    result = finite_horizon_truncation(modes, orders, Use(horizon=horizon)).modes
    limited, plain = (
        over(modes, each, horizon) for each in (result, reduce("balanced", modes, 6).modes)
    )
    assert result.is_stable.all()
    assert (limited <= plain * (1 + 1e-6)).all()
    assert np.median(limited / plain) < gain


@SEEDS
def test_no_worse_than_the_textbooks_time_limited_truncation(seed: int) -> None:
    modes = well_conditioned(seed, 4)
    A, B, C = dense_real(modes)
    horizon, order = 12, 3
    inputs = np.column_stack([np.linalg.matrix_power(A, k) @ B for k in range(horizon)])
    outputs = np.array([C @ np.linalg.matrix_power(A, k) for k in range(horizon)])
    U, sigma, Vh = np.linalg.svd(outputs @ inputs)
    scale = 1 / np.sqrt(sigma[:order])
    T, W = inputs @ Vh[:order].T * scale, (outputs.T @ U[:, :order]) * scale
    system = Dense(W.T @ A @ T, W.T @ B, C @ T)
    expected = np.linalg.norm(system.kernel(horizon) - modes.kernel(horizon))
    found = finite_horizon_truncation(modes, np.array([order]), Use(horizon=horizon)).modes
    if np.abs(np.linalg.eigvals(system.A)).max() < 1:
        assert over(modes, found, horizon) <= expected * (1 + 1e-9)


def test_a_horizon_is_needed() -> None:
    with pytest.raises(S4EdgeError, match=r"^finite-horizon needs [^\n]*$"):
        finite_horizon_truncation(make([-0.1 + 1j], [1]), np.array([1]))
    assert USE.horizon is not None
