"""H2-optimal approximation: conditions of optimality, and least squares in the time domain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from method_checks import NOTHING, reduce, well_conditioned
from random_systems import FAMILIES, make
from system_strategies import systems

from s4edge.systems.h2 import h2_distance
from s4edge.systems.h2_energy import ReducedPoles, System, derivatives, energy_of
from s4edge.systems.modes import Modes

PROPERTY = settings(deadline=None, max_examples=40, derandomize=True)
SEEDS = pytest.mark.parametrize("seed", range(8))
LENGTH = 2000


def distance(first: Modes, second: Modes, length: int = LENGTH) -> float:
    return float(np.linalg.norm(first.kernel(length) - second.kernel(length)))


def best_fit(modes: Modes, pole: np.ndarray) -> float:
    """Error with the best weights of given poles, by least squares over samples."""
    steps = np.arange(LENGTH)
    functions = pole[:, None] ** steps
    columns = np.concatenate([functions.real, functions.imag]).T
    target = modes.kernel(LENGTH)[0]
    return float(np.linalg.norm(target - columns @ np.linalg.lstsq(columns, target, rcond=None)[0]))


@PROPERTY
@given(systems(slowest=1e-2, orders=3), st.integers(1, 12))
def test_never_worse_than_balanced_truncation(modes: Modes, order: int) -> None:
    found, start = reduce("h2", modes, order).modes, reduce("balanced", modes, order).modes
    assert found.real_states[0] == start.real_states[0]
    slack = 1e-9 * np.linalg.norm(modes.kernel(LENGTH))
    assert distance(modes, found) <= distance(modes, start) * (1 + 1e-6) + slack


@pytest.mark.parametrize("family", FAMILIES)
def test_never_worse_than_balanced_truncation_of_any_kind(family: str) -> None:
    modes = FAMILIES[family](np.random.default_rng(2), 8)
    (scale,) = h2_distance(modes, NOTHING)
    for order in (1, 2, 3, 6, 8):
        found, start = (reduce(name, modes, order).modes for name in ("h2", "balanced"))
        assert found.real_states[0] == start.real_states[0]
        least, before = (h2_distance(modes, each)[0] for each in (found, start))
        assert least <= before * (1 + 1e-6) + 1e-7 * scale


@SEEDS
def test_interpolation_at_the_mirrored_poles(seed: int) -> None:
    modes = well_conditioned(seed)
    norm = np.linalg.norm(modes.kernel(LENGTH))
    for order in range(1, 7):
        found = reduce("h2", modes, order).modes
        at = found.pole.conj()
        # In x = 1 / z, with K[k] and k K[k] as coefficients.
        powers = at[:, None] ** np.arange(LENGTH)
        slopes = np.arange(1, LENGTH) * powers[:, :-1]
        left = (modes.kernel(LENGTH) - found.kernel(LENGTH))[0]
        decay = 1 - np.abs(at)
        assert np.abs(powers @ left * decay**0.5).max() <= 1e-6 * norm
        assert np.abs(slopes @ left[1:] * decay**1.5).max() <= 1e-5 * norm


@SEEDS
def test_the_weights_are_the_best(seed: int) -> None:
    modes = well_conditioned(seed)
    for order in range(1, 7):
        found = reduce("h2", modes, order).modes
        assert distance(modes, found) == pytest.approx(best_fit(modes, found.pole), rel=1e-6)


@SEEDS
def test_no_poles_nearby_are_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    modes = well_conditioned(seed)
    for order in (1, 2, 4):
        found = reduce("h2", modes, order).modes
        least = distance(modes, found)
        for _ in range(20):
            moved = found.log_pole * (1 + 0.02 * rng.normal(size=len(found.log_pole)))
            moved += 0.02 * found.log_pole.real * rng.normal(size=len(moved)) * 1j
            moved = np.where(found.is_real, moved.real + 1j * found.log_pole.imag, moved)
            assert best_fit(modes, np.exp(moved)) >= least * (1 - 1e-6)


@SEEDS
def test_one_and_two_states_against_a_search(seed: int) -> None:
    modes = well_conditioned(seed, 3)
    real = np.linspace(-0.99, 0.99, 199)
    one = min(best_fit(modes, np.array([a])) for a in real)
    assert distance(modes, reduce("h2", modes, 1).modes) <= one * (1 + 1e-6)
    pairs = np.linspace(0.3, 0.98, 12)[:, None] * np.exp(1j * np.linspace(0.1, 3, 24))
    two = min(best_fit(modes, np.array([a])) for a in pairs.ravel())
    two = min(two, *(best_fit(modes, np.array([a, b])) for a in real[::15] for b in real[7::15]))
    assert distance(modes, reduce("h2", modes, 2).modes) <= two * (1 + 1e-6)


# The energy


def some_poles() -> tuple[ReducedPoles, np.ndarray]:
    alpha = np.array([0.8 + 0.3j, 0.8 - 0.3j, 0.9, -0.4, 0.2])
    return ReducedPoles.paired(alpha[None] - 1), alpha[[0, 2, 3, 4]]


@SEEDS
def test_energy_is_the_least_squares_residual(seed: int) -> None:
    modes = well_conditioned(seed)
    poles, alpha = some_poles()
    energy = energy_of(System.of(modes), poles)[0]
    assert energy == pytest.approx(best_fit(modes, alpha) ** 2, rel=1e-8)


@SEEDS
def test_derivatives_of_the_energy(seed: int) -> None:
    system = System.of(well_conditioned(seed))
    poles, _ = some_poles()
    gradient, hessian, gauss, energy = derivatives(system, poles)
    assert energy == pytest.approx(energy_of(system, poles), rel=1e-12)
    assert np.linalg.eigvalsh(gauss[0]).min() > -1e-9 * np.trace(gauss[0])
    for i, step in enumerate(1e-5 * np.eye(5)):
        sides = [derivatives(system, poles.plus(sign * step[None])) for sign in (1, -1)]
        slope = (sides[0][3] - sides[1][3]) / 2e-5
        assert 2 * gradient[0, i] == pytest.approx(slope[0], rel=1e-5, abs=1e-6 * energy[0])
        change = (sides[0][0] - sides[1][0]) / 2e-5
        scale = np.abs(hessian).max()
        np.testing.assert_allclose(hessian[0, i], change[0], rtol=1e-5, atol=1e-6 * scale)


def test_two_real_poles_become_a_pair() -> None:
    # A pair so near to the real axis that balanced truncation may see two real poles, and back.
    for angle in (0.0, 1e-3, 0.01, 0.03):
        log_pole = np.array([-0.1 + 1j * angle, -0.5 + 2j]) if angle else [-0.1, -0.11, -0.5 + 2j]
        modes = make(log_pole, [1, 0.1j] if angle else [1, -0.8, 0.1j])
        found = reduce("h2", modes, 2).modes
        assert distance(modes, found) <= best_fit(modes, found.pole) * (1 + 1e-6)
        at = found.pole.conj()
        left = (modes.kernel(LENGTH) - found.kernel(LENGTH))[0]
        assert np.abs(at[:, None] ** np.arange(LENGTH) @ left).max() <= 1e-6
