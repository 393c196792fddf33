"""Measured H-infinity norms against dense grids, exact stationary points and a bisection."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import scipy.linalg
import scipy.signal
import scipy.special
from hypothesis import given, settings
from random_systems import FAMILIES, dense_real, make, merged, weights
from system_strategies import systems

from s4edge.compression.states.methods.balanced import balanced_truncation
from s4edge.systems.balancing import hankel_singular_values
from s4edge.systems.hinf import frequency_response, hinf_distance
from s4edge.systems.modes import Modes

NOTHING = make([], [])
GRID = np.linspace(0, np.pi, 100_000)


def norm(modes: Modes) -> float:
    return float(hinf_distance(modes, NOTHING)[0])


def response(modes: Modes, omega: np.ndarray) -> np.ndarray:
    """By transfer functions of real poles and pairs, as textbooks have them."""
    z = np.exp(1j * omega)
    total = np.zeros(len(omega), complex)
    for a, w, real in zip(modes.pole, modes.weight, modes.is_real, strict=True):
        if real:
            total += w.real * z / (z - a.real)
        else:
            total += (
                (w.real * z - (w * a.conjugate()).real) * z / (z * z - 2 * a.real * z + abs(a) ** 2)
            )
    return total


def dense_norm(modes: Modes) -> float:
    """On a grid of 100,000 points, and as many around the angles of all poles together."""
    around = np.tan(np.linspace(-1.55, 1.55, 100_000 // len(modes.weight)))
    width = -np.expm1(modes.log_pole.real)[:, None]
    near = np.abs(modes.log_pole.imag)[:, None] + width * around
    turn = 1j * np.r_[GRID, near.ravel()]
    total = np.zeros(len(turn), complex)
    # 1 - a exp(-i omega) by scipy, since z - a of slow poles close to z = 1 has few digits.
    for log_pole, w in zip(modes.log_pole, modes.weight, strict=True):
        total -= w / 2 / scipy.special.expm1(log_pole - turn)
        total -= w.conjugate() / 2 / scipy.special.expm1(log_pole.conjugate() - turn)
    return float(np.abs(total).max())


def exact_norm(modes: Modes) -> float:
    """Where the derivative of the squared gain, a ratio of trigonometric polynomials, is 0."""
    with mpmath.workdps(80):
        pairs, reals = merged(modes)
        halves = [(a, w / 2) for a, w in pairs]
        terms = [*halves, *((a.conjugate(), w.conjugate()) for a, w in halves), *reals]

        def product(p: list, q: list) -> list:
            out = [mpmath.mpf(0)] * (len(p) + len(q) - 1)
            for i, x in enumerate(p):
                for j, y in enumerate(q):
                    out[i + j] += x * y
            return out

        def without(skip: int | None) -> list:
            out = [mpmath.mpf(1)]
            for index, (a, _) in enumerate(terms):
                out = out if index == skip else product(out, [1, -a])
            return out

        # G = numerator(x) / denominator(x) with x = exp(-i omega), by rising powers.
        n = len(terms)
        denominator = [mpmath.re(c) for c in without(None)]
        numerator = [mpmath.mpf(0)] * n
        for index, (_, w) in enumerate(terms):
            numerator = [c + w * d for c, d in zip(numerator, without(index), strict=True)]
        numerator = [mpmath.re(c) for c in numerator]
        top, bottom = product(numerator, numerator[::-1]), product(denominator, denominator[::-1])
        slope = [k * c for k, c in enumerate(top, start=1 - n)]
        steep = [k * c for k, c in enumerate(bottom, start=-n)]
        stationary = [
            x - y for x, y in zip(product(slope, bottom), product(top, steep), strict=True)
        ]
        largest = max(abs(c) for c in stationary)
        while abs(stationary[0]) < largest * mpmath.mpf(10) ** -60:
            stationary = stationary[1:-1]  # a system without K[0] has no leading coefficient
        roots = mpmath.polyroots(stationary, maxsteps=2000, extraprec=400)
        points = [x / abs(x) for x in roots if abs(abs(x) - 1) < mpmath.mpf(10) ** -15]
        gains = [
            abs(mpmath.polyval(numerator[::-1], x) / mpmath.polyval(denominator[::-1], x))
            for x in [*points, 1, -1]
        ]
        return float(max(gains))


def bisected_norm(modes: Modes) -> float:
    """Boyd and Balakrishnan's bisection in discrete time, with a symplectic pencil.

    A gain is attained somewhere just when the pencil has eigenvalues on the unit circle.
    """
    A, B, C = dense_real(modes)
    n = len(B)
    B, C, D = A @ B[:, None], C[None, :], float(C @ B)  # K[0] = C B, K[k] = C A^(k-1) (A B)

    def attained(gamma: float) -> bool:
        R = gamma**2 - D**2
        closed = A + B @ C * (D / R)
        first = np.block([[closed, np.zeros((n, n))], [-(1 + D**2 / R) * C.T @ C, np.eye(n)]])
        second = np.block([[np.eye(n), -B @ B.T / R], [np.zeros((n, n)), closed.T]])
        values = scipy.linalg.eigvals(first, second)
        return bool((np.abs(np.abs(values) - 1) < 1e-8).any())

    low = float(np.abs(response(modes, np.linspace(0, np.pi, 50))).max())
    high = 2 * hankel_singular_values(modes)[0].sum() + abs(D)
    while high > low * (1 + 1e-9):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if attained(middle) else (low, middle)
    return low


def resonant(seed: int, decay: float, n: int = 4) -> Modes:
    rng = np.random.default_rng(seed)
    return make(-decay * rng.uniform(1, 3, n) + 1j * rng.uniform(0.1, 3, n), weights(rng, n, 0.5))


@pytest.mark.parametrize("family", FAMILIES)
def test_frequency_response_is_the_transfer_function(family: str) -> None:
    modes = FAMILIES[family](np.random.default_rng(0), 8)
    omega = np.linspace(0, np.pi, 301)
    expected = response(modes, omega)
    np.testing.assert_allclose(
        frequency_response(modes, omega[None])[0], expected, rtol=1e-7, atol=1e-9
    )


def test_frequency_response_is_the_transform_of_the_kernel() -> None:
    modes = make([-0.2 + 0.7j, -0.3, -0.25 + np.pi * 1j], [1 + 2j, -0.5, 2])
    kernel = modes.kernel(400)[0]
    omega, expected = scipy.signal.freqz(kernel, worN=64)
    np.testing.assert_allclose(frequency_response(modes, omega[None])[0], expected, atol=1e-12)


def test_one_real_pole_by_hand() -> None:
    for decay in (1e-9, 1e-5, 0.1, 20):
        for angle in (0, np.pi):
            modes = make([-decay + 1j * angle], [-3])
            assert norm(modes) == pytest.approx(3 / -np.expm1(-decay), rel=1e-7)


def test_one_slow_pair_by_hand() -> None:
    # Far from its conjugate a resonance has height |w / 2| / (1 - |a|).
    modes = make([-1e-8 + 1j], [2 - 1j])
    assert norm(modes) == pytest.approx(np.sqrt(5) / 2 / 1e-8, rel=1e-6)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(systems(most=6, slowest=1e-5))
def test_dense_grid(modes: Modes) -> None:
    expected = dense_norm(modes)
    assert norm(modes) == pytest.approx(expected, rel=1e-6, abs=1e-300)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("order", [2, 5])
def test_dense_grid_of_the_error_of_a_reduction(family: str, order: int) -> None:
    modes = FAMILIES[family](np.random.default_rng(4), 10)
    reduced = balanced_truncation(modes, np.array([order])).modes
    error = make(np.r_[modes.log_pole, reduced.log_pole], np.r_[modes.weight, -reduced.weight])
    expected = dense_norm(error)
    found = float(hinf_distance(modes, reduced)[0])
    assert found == pytest.approx(expected, rel=1e-6)
    assert norm(error) == pytest.approx(found, rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("decay", [0.1, 1e-3, 1e-5])
def test_stationary_points(seed: int, decay: float) -> None:
    modes = resonant(seed, decay)
    assert norm(modes) == pytest.approx(exact_norm(modes), rel=1e-6)


def test_stationary_points_of_resonances_that_overlap() -> None:
    # Two poles within a half-width of each other with opposite weights, and a slow real pole.
    modes = make(
        [-1e-5 + 1j, -1.2e-5 + (1 + 8e-6) * 1j, -2e-5, -0.3 + 2j], [1, -1.1 + 0.2j, 0.1, 1]
    )
    assert norm(modes) == pytest.approx(exact_norm(modes), rel=1e-6)


@pytest.mark.parametrize("middle", [0.0, 0.5, 2.0, np.pi])
def test_many_narrow_resonances_between_two_samples(middle: float) -> None:
    """Each is seen at its own angle only, on either side of 0 and of pi."""
    angle = middle + 2e-3 * (np.arange(12) - 5.5)
    for largest in (0, 7, 11):
        w = np.where(np.arange(12) == largest, 3.0, 1.0)
        modes = make(-1e-6 + 1j * angle, w)
        assert norm(modes) == pytest.approx(dense_norm(modes), rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("decay", [0.1, 1e-2])
def test_bisection_with_a_symplectic_pencil(seed: int, decay: float) -> None:
    modes = resonant(seed, decay, n=3)
    assert norm(modes) == pytest.approx(bisected_norm(modes), rel=1e-6)


def test_channels_and_empty_channels() -> None:
    parts = [resonant(0, 0.01), NOTHING, resonant(1, 1e-4, n=2), NOTHING]
    first = Modes.make(
        np.concatenate([part.log_pole for part in parts]),
        np.concatenate([part.weight for part in parts]),
        np.repeat(np.arange(4), [len(part.weight) for part in parts]),
        4,
    )
    found = hinf_distance(first, Modes.make([-0.1], [2], [3], 4))
    np.testing.assert_allclose(found[0], norm(parts[0]), rtol=1e-9)
    assert found[1] == 0
    np.testing.assert_allclose(found[2], norm(parts[2]), rtol=1e-9)
    np.testing.assert_allclose(found[3], 2 / -np.expm1(-0.1), rtol=1e-9)


def test_a_system_is_at_distance_0_of_itself() -> None:
    modes = resonant(2, 1e-5)
    shuffled = make(modes.log_pole[::-1].conj(), modes.weight[::-1].conj())
    assert hinf_distance(modes, shuffled)[0] <= 1e-9 * norm(modes)
