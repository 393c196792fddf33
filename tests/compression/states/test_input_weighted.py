"""Balanced truncation with the autocorrelation of the input."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from random_systems import dense_real
from system_strategies import systems

from s4edge.compression.states.base import Use
from s4edge.compression.states.methods.balanced import balanced_truncation
from s4edge.compression.states.methods.input_weighted import (
    input_weighted_truncation,
    state_covariance,
)
from s4edge.systems.generators import Generators
from s4edge.systems.modes import Modes

PROPERTY = settings(deadline=None, max_examples=40, derandomize=True)


def first_order(correlation: float, lags: int = 400) -> Use:
    """An input whose samples are correlated with their neighbours'."""
    return Use(correlation ** np.arange(lags)[None])


def stationary_error(modes: Modes, reduced: Modes, correlation: float) -> float:
    """Mean square of the difference's output, by the Lyapunov equation of an augmented system."""
    first, second = dense_real(modes), dense_real(reduced)
    A = scipy.linalg.block_diag(first.A, second.A)
    B = np.concatenate([first.B, second.B])
    C = np.concatenate([first.C, -second.C])
    # The input is the state of a first-order filter of white noise.
    n = len(B)
    joint = np.zeros((n + 1, n + 1))
    joint[:n, :n], joint[:n, n], joint[n, n] = A, correlation * B, correlation
    drive = np.append(B, 1) * np.sqrt(1 - correlation**2)
    covariance = scipy.linalg.solve_discrete_lyapunov(joint, np.outer(drive, drive))
    return float(C @ covariance[:n, :n] @ C)


@PROPERTY
@given(modes=systems(most=4, slowest=1e-2, orders=1), correlation=st.floats(-0.9, 0.9))
def test_the_covariance_is_that_of_the_states(modes: Modes, correlation: float) -> None:
    group = Generators.of(modes)
    found = state_covariance(group, first_order(correlation).autocorrelation)[0]
    A, B = np.eye(len(found)) + group.delta()[0], group.input()[0]
    n = len(B)
    joint = np.zeros((n + 1, n + 1))
    joint[:n, :n], joint[:n, n], joint[n, n] = A, correlation * B, correlation
    drive = np.append(B, 1) * np.sqrt(1 - correlation**2)
    expected = scipy.linalg.solve_discrete_lyapunov(joint, np.outer(drive, drive))[:n, :n]
    assert np.abs(found - expected).max() <= 1e-9 * max(1.0, np.abs(expected).max())


@PROPERTY
@given(modes=systems(most=5, slowest=1e-2, orders=2), order=st.integers(1, 6))
def test_white_input_is_plain_balanced_truncation(modes: Modes, order: int) -> None:
    orders = np.minimum(order, modes.real_states)
    white = Use(np.eye(1, 50))
    calibrated = input_weighted_truncation(modes, orders, white)
    plain = balanced_truncation(modes, orders)
    (sigma,) = plain.hankel
    np.testing.assert_allclose(calibrated.hankel[0], sigma, atol=1e-7 * sigma.max(initial=1e-300))
    if order < len(sigma) and sigma[order - 1] > 1.01 * sigma[order] > 1e-4 * sigma[0]:
        kernels = calibrated.modes.kernel(200), plain.modes.kernel(200)
        assert np.abs(kernels[0] - kernels[1]).max() <= 1e-6 * np.abs(modes.weight).sum()


@PROPERTY
@given(
    modes=systems(slowest=1e-3),
    order=st.integers(0, 12),
    seed=st.integers(0, 2**32 - 1),
    lags=st.integers(1, 80),
)
def test_stable_for_the_autocorrelation_of_any_signal(
    modes: Modes, order: int, seed: int, lags: int
) -> None:
    u = np.random.default_rng(seed).normal(size=lags).cumsum()
    rho = np.correlate(u, u, "full")[lags - 1 :]
    orders = np.minimum(order, modes.real_states)
    result = input_weighted_truncation(modes, orders, Use(rho[None]))
    assert result.modes.is_stable.all()
    assert (result.modes.real_states <= orders).all()


def test_closer_than_plain_on_what_it_was_calibrated_for() -> None:
    rng = np.random.default_rng(0)
    ratio = []
    for _ in range(20):
        log_pole = -(10 ** rng.uniform(-2, -0.3, 8)) + 1j * rng.uniform(0, 3, 8)
        weight = rng.normal(size=8) + 1j * rng.normal(size=8)
        modes = Modes.make(log_pole, weight, np.zeros(8), 1)
        orders = np.array([6])
        calibrated = input_weighted_truncation(modes, orders, first_order(0.95)).modes
        plain = balanced_truncation(modes, orders).modes
        ratio.append(
            stationary_error(modes, calibrated, 0.95) / stationary_error(modes, plain, 0.95)
        )
    assert np.median(ratio) < 0.5
    assert max(ratio) < 2


def test_autocorrelation_is_needed() -> None:
    modes = Modes.make([-0.1 + 1j], [1], [0], 1)
    with pytest.raises(ValueError, match="autocorrelation"):
        input_weighted_truncation(modes, np.array([1]), Use())
