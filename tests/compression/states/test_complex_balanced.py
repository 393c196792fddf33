from __future__ import annotations

import numpy as np
import pytest
from random_systems import (
    FAMILIES,
    Dense,
    decays,
    dense_balanced_truncation,
    make,
    rounding,
    side_by_side,
    weights,
)

from s4edge.compression.states.methods.balanced import balanced_truncation
from s4edge.compression.states.methods.complex_balanced import complex_balanced_truncation
from s4edge.systems.hinf import hinf_distance
from s4edge.systems.modes import Modes


def reduce(modes: Modes, order: int):
    return complex_balanced_truncation(modes, np.full(modes.channels, order))


def well_conditioned(seed: int) -> Modes:
    rng = np.random.default_rng(seed)
    angle = np.array([0, np.pi, 0.4, -1.3, 2.4, -2.9])[: 2 + seed % 5]
    return make(-rng.uniform(0.05, 0.5, len(angle)) + 1j * angle, weights(rng, len(angle)))


@pytest.mark.parametrize("seed", range(10))
def test_textbook_implementation_on_the_half_system_gives_the_same(seed: int) -> None:
    modes = well_conditioned(seed)
    n = len(modes.weight)
    half = Dense(np.diag(modes.pole), modes.weight, np.ones(n, complex))
    for kept in range(1, n + 1):
        expected, sigma = dense_balanced_truncation(half, kept)
        result = reduce(modes, 2 * kept)
        np.testing.assert_allclose(result.hankel[0], sigma, rtol=1e-8)
        assert result.error_bound[0] == pytest.approx(2 * sigma[kept:].sum(), rel=1e-7)
        scale = np.abs(modes.weight).sum()
        np.testing.assert_allclose(
            result.modes.kernel(200)[0], expected.kernel(200), atol=1e-8 * scale
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_stable_within_order_and_bound(family: str) -> None:
    modes = FAMILIES[family](np.random.default_rng(0), 10)
    for order in range(modes.real_states[0] + 1):
        result = reduce(modes, order)
        assert result.modes.is_stable.all()
        assert result.modes.real_states[0] <= order
        # Only the real part is read: the error is within the bound, with room to spare.
        error = hinf_distance(modes, result.modes)[0]
        assert error <= result.error_bound[0] + rounding(modes)


@pytest.mark.parametrize("family", FAMILIES)
def test_at_full_order_nothing_is_lost(family: str) -> None:
    modes = FAMILIES[family](np.random.default_rng(1), 10)
    result = reduce(modes, 20)
    assert hinf_distance(modes, result.modes)[0] <= rounding(modes)


def test_an_odd_order_leaves_a_state_unused() -> None:
    modes = well_conditioned(4)
    assert reduce(modes, 5).modes.real_states[0] == 4
    assert reduce(modes, 1).modes.real_states[0] == 0


def test_channels_are_independent_and_may_be_empty() -> None:
    rng = np.random.default_rng(2)
    parts = [well_conditioned(s) for s in range(5)]
    parts[2] = make([], [])
    parts.append(make([-0.1 + 1j, -0.2], [0, 0]))
    parts.append(make(-decays(rng, 4) + 1j * rng.uniform(0, 3, 4), weights(rng, 4)))
    together = side_by_side(parts)
    result = reduce(together, 4)
    assert result.modes.real_states.tolist()[2] == 0
    assert result.modes.real_states.tolist()[5] == 0
    for channel, part in enumerate(parts):
        alone = reduce(part, 4)
        found = result.modes.of_channels(np.array([channel]))
        assert result.error_bound[channel] == pytest.approx(alone.error_bound[0], rel=1e-12)
        scale = max(1, np.abs(part.weight).sum())
        np.testing.assert_allclose(found.kernel(200), alone.modes.kernel(200), atol=1e-9 * scale)


def test_the_real_method_serves_random_systems_better_on_the_whole() -> None:
    # The reason for `balanced_truncation`: no accuracy is spent on the imaginary part.
    rng = np.random.default_rng(3)
    ratios = []
    for _ in range(20):
        modes = make(-decays(rng, 8) + 1j * rng.uniform(0, np.pi, 8), weights(rng, 8))
        complex_error = hinf_distance(modes, reduce(modes, 8).modes)[0]
        real_error = hinf_distance(modes, balanced_truncation(modes, np.array([8])).modes)[0]
        ratios.append(complex_error / real_error)
    assert np.median(ratios) > 1
