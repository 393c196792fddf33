"""Optimal Hankel-norm approximation: Adamjan, Arov and Krein's theorem and Glover's bound."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from method_checks import error, feedthrough, from_second_sample, kernel, minus, reduce
from method_checks import well_conditioned as system
from random_systems import FAMILIES, make, rounding, weights
from system_strategies import systems

from s4edge.systems.balancing import hankel_singular_values
from s4edge.systems.hinf import frequency_response
from s4edge.systems.modes import Modes

PROPERTY = settings(deadline=None, max_examples=40, derandomize=True)


def hankel_norm(modes: Modes) -> float:
    """Of the kernel from its second sample on: no constant changes it."""
    return float(hankel_singular_values(from_second_sample(modes))[0].max(initial=0))


def check_theorem(modes: Modes, order: int, tolerance: float = 1e-6) -> None:
    result = reduce("hankel", modes, order)
    (sigma,) = hankel_singular_values(from_second_sample(modes))
    np.testing.assert_allclose(result.hankel[0], sigma, rtol=1e-9, atol=1e-14 * sigma[0])
    found = hankel_norm(minus(modes, result.modes))
    slack = 0.1 * rounding(modes)
    assert found == pytest.approx(sigma[order], rel=tolerance, abs=slack)
    # Half of what balanced truncation has.
    assert error(modes, result) <= sigma[order:].sum() * (1 + 1e-6) + slack


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(2))
def test_the_error_is_the_next_singular_value(family: str, seed: int) -> None:
    modes = FAMILIES[family](np.random.default_rng(seed), 7)
    # Slower ones beside much smaller singular values are beyond double precision: truncated.
    decay = np.maximum(-modes.log_pole.real, 1e-3)
    modes = make(-decay + 1j * modes.log_pole.imag, modes.weight)
    (sigma,) = hankel_singular_values(from_second_sample(modes))
    for order in range(len(sigma)):
        if sigma[order] > 1e-8 * sigma[0]:
            check_theorem(modes, order)


@PROPERTY
@given(systems(slowest=1e-2, orders=2, most=8), st.integers(0, 12))
def test_random_systems(modes: Modes, order: int) -> None:
    (sigma,) = hankel_singular_values(from_second_sample(modes))
    assume(order < len(sigma) and sigma[order] > 1e-7 * sigma[0])
    ratio = sigma[max(order - 1, 0) : order + 2]
    assume((ratio[1:] < 0.999 * ratio[:-1]).all())
    check_theorem(modes, order, 1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_by_the_singular_values_of_hankel_matrices(seed: int) -> None:
    modes = system(seed)
    given = modes.kernel(801)[0, 1:]
    sigma = np.linalg.svd(scipy.linalg.hankel(given[:400], given[399:]), compute_uv=False)
    for order in range(1, 6):
        result = reduce("hankel", modes, order)
        assert result.modes.real_states[0] == order
        left = given - kernel(result, 801)[0, 1:]
        matrix = scipy.linalg.hankel(left[:400], left[399:])
        assert np.linalg.norm(matrix, 2) == pytest.approx(sigma[order], rel=1e-6)


def test_one_state_by_hand() -> None:
    # K[1], K[2], ... = a^(k-1): nothing comes closer than 1 / (1 - a^2), and with the best
    # constant the error is all-pass.
    a = 0.6
    modes = make([np.log(a)], [1 / a])
    result = reduce("hankel", modes, 0)
    omega = np.linspace(0, np.pi, 50)
    left = frequency_response(modes, omega[None])[0] - result.feedthrough[0]
    np.testing.assert_allclose(np.abs(left), 1 / (1 - a * a), rtol=1e-6)
    assert result.feedthrough[0] == pytest.approx(1 / a + a / (1 - a * a), rel=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_no_other_constant_is_better(seed: int) -> None:
    modes = system(seed)
    omega = np.linspace(0, np.pi, 20_000)[None]
    for order in (1, 2, 5):
        result = reduce("hankel", modes, order)
        left = frequency_response(modes, omega) - frequency_response(result.modes, omega)
        D = feedthrough(result)[0]
        least = np.abs(left - D).max()
        for step in (1e-3, -1e-3):
            assert np.abs(left - D - step * least).max() > least * (1 - 1e-6)


@pytest.mark.parametrize("step", [2, 3])
@pytest.mark.parametrize("seed", range(2))
def test_repeated_singular_values(seed: int, step: int) -> None:
    # z^-step in place of z^-1: every singular value of K[1], K[2], ... `step` times.
    rng = np.random.default_rng(seed)
    log_pole, w = -rng.uniform(0.05, 0.5, 4) + 1j * rng.uniform(0.1, 3, 4), weights(rng, 4)
    both, half = np.r_[log_pole, log_pole.conj()], np.r_[w, w.conj()] / 2
    roots = (both + 2j * np.pi * np.arange(step)[:, None]) / step
    modes = make(roots.ravel(), np.tile(half / step, step))
    (sigma,) = hankel_singular_values(from_second_sample(modes))
    assert sigma[0] == pytest.approx(sigma[1], rel=1e-9)
    for order in range(0, len(sigma) // 2, 2):
        result = reduce("hankel", modes, order)
        assert result.modes.is_stable.all()
        assert result.modes.real_states[0] <= order
        slack = 1e-11 * sigma[0]
        assert error(modes, result) <= result.error_bound[0] * (1 + 1e-6) + slack
        found = hankel_norm(minus(modes, result.modes))
        assert found == pytest.approx(sigma[order], rel=1e-6, abs=slack)
