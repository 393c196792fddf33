"""What holds for every method of reduction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from method_checks import NOTHING, error, feedthrough, kernel, reduce
from random_systems import FAMILIES, decays, make, rounding, side_by_side
from system_strategies import systems

from s4edge.compression.states.methods.registry import METHODS
from s4edge.systems.balancing import hankel_singular_values
from s4edge.systems.modes import Modes

PROPERTY = settings(deadline=None, max_examples=30, derandomize=True)
# Shared modes take channels that share theirs: see test_shared_modes.py.
PER_CHANNEL = [name for name in METHODS if name != "shared-modes"]
EVERY = pytest.mark.parametrize("method", PER_CHANNEL)
# The half-system keeps whole modes, modal truncation exact ones.
REAL = pytest.mark.parametrize("method", [n for n in PER_CHANNEL if n != "complex-balanced"])


def check(method: str, modes: Modes, order: int) -> None:
    result = reduce(method, modes, order)
    allowed = min(order, int(modes.real_states[0]))
    assert result.modes.is_stable.all()
    assert np.isfinite(result.modes.log_pole).all()
    assert np.isfinite(result.modes.weight).all()
    assert np.isfinite(feedthrough(result)).all()
    if method == "complex-balanced":
        assert len(result.modes.weight) <= allowed // 2
        return  # its bound is of the complex half-system
    assert result.modes.real_states[0] <= allowed
    bound = result.error_bound[0]
    assert np.isnan(bound) or error(modes, result) <= bound + rounding(modes)


@EVERY
@PROPERTY
@given(modes=systems(slowest=1e-3), order=st.integers(0, 20))
def test_stable_no_larger_than_asked_within_the_bound(
    method: str, modes: Modes, order: int
) -> None:
    check(method, modes, order)


@EVERY
@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind_of_system_at_every_order(method: str, family: str) -> None:
    modes = FAMILIES[family](np.random.default_rng(0), 6)
    for order in range(int(modes.real_states[0]) + 1):
        check(method, modes, order)


@REAL
@PROPERTY
@given(modes=systems(slowest=1e-3, orders=3))
def test_at_full_order_nothing_is_lost(method: str, modes: Modes) -> None:
    result = reduce(method, modes, int(modes.real_states[0]))
    scale = np.abs(modes.weight).sum()
    assert np.abs(kernel(result, 300) - modes.kernel(300)).max() <= 1e-7 * scale


@REAL
@settings(PROPERTY, max_examples=20)
@given(modes=systems(most=4, slowest=1e-2, orders=2), seed=st.integers(0, 2**32 - 1))
def test_a_hidden_system_of_low_order_is_recovered(method: str, modes: Modes, seed: int) -> None:
    rng = np.random.default_rng(seed)
    share = rng.normal(size=len(modes.weight)) + 1j * rng.normal(size=len(modes.weight))
    hidden = make(
        np.r_[
            modes.log_pole, modes.log_pole.conj(), -decays(rng, 3) + 1j * np.array([0, 1, np.pi])
        ],
        np.r_[modes.weight * share, (modes.weight * (1 - share)).conj(), np.zeros(3)],
    )
    (sigma,) = hankel_singular_values(modes)
    assume(sigma[0] > 0)
    result = reduce(method, hidden, int(modes.real_states[0]))
    scale = np.abs(hidden.weight).sum()
    assert np.abs(kernel(result, 300) - modes.kernel(300)).max() <= 1e-7 * scale


@EVERY
@settings(PROPERTY, max_examples=25)
@given(
    modes=systems(most=6, slowest=1e-2, orders=2),
    order=st.integers(1, 6),
    flips=st.integers(0, 63),
    random=st.randoms(use_true_random=False),
)
def test_order_of_modes_and_choice_of_conjugates_do_not_matter(
    method: str, modes: Modes, order: int, flips: int, random
) -> None:
    (sigma,) = hankel_singular_values(modes)
    if method == "complex-balanced":
        # Which half is balanced does matter there.
        flips = 0
    count = len(modes.weight)
    flip = (flips >> np.arange(count)) & 1 == 1
    shuffled = list(range(count))
    random.shuffle(shuffled)
    other = make(
        np.where(flip, modes.log_pole.conj(), modes.log_pole)[shuffled],
        np.where(flip, modes.weight.conj(), modes.weight)[shuffled],
    )
    first, second = reduce(method, modes, order), reduce(method, other, order)
    scale = np.abs(modes.weight).sum()
    if order < len(sigma) and sigma[0] > 0:
        # Equally good results, not the same one, where the choice is a close one.
        assume(sigma[order] < 0.9 * sigma[order - 1])
    if method in ("h2", "modal", "complex-balanced"):
        a, b = (np.linalg.norm(kernel(r, 2000) - modes.kernel(2000)) for r in (first, second))
        assert a == pytest.approx(b, rel=1e-3, abs=1e-7 * scale)
    else:
        assert np.abs(kernel(first, 300) - kernel(second, 300)).max() <= 1e-6 * scale


@EVERY
def test_channels_are_independent(method: str) -> None:
    rng = np.random.default_rng(3)
    parts = [FAMILIES[family](rng, n) for family in FAMILIES for n in (3, 6)]
    parts.insert(2, NOTHING)
    parts.insert(5, make([-0.1 + 1j], [0]))
    together = side_by_side(parts)
    orders = np.minimum(together.real_states, rng.integers(0, 8, len(parts)))
    before = [array.copy() for array in (together.log_pole, together.weight, together.channel)]
    result = reduce(method, together, orders)
    for array, copy in zip(
        (together.log_pole, together.weight, together.channel), before, strict=True
    ):
        assert (array == copy).all()
    assert result.modes.channels == len(parts) == len(result.hankel)
    both = kernel(result, 300)
    for channel, part in enumerate(parts):
        alone = reduce(method, part, orders[[channel]])
        scale = np.abs(part.weight).sum()
        np.testing.assert_allclose(both[[channel]], kernel(alone, 300), atol=1e-6 * scale)


@EVERY
def test_nothing_to_reduce(method: str) -> None:
    result = reduce(method, Modes.make([], [], [], 2), 0)
    assert result.modes.channels == 2
    assert len(result.modes.weight) == 0


@EVERY
def test_a_scaled_system_is_reduced_to_the_scaled_system(method: str) -> None:
    modes = FAMILIES["spread"](np.random.default_rng(5), 6)
    plain = kernel(reduce(method, modes, 4), 200)
    for scale in (-1.0, 1e-20, 3e7):
        scaled = reduce(method, make(modes.log_pole, scale * modes.weight), 4)
        np.testing.assert_allclose(kernel(scaled, 200) / scale, plain, atol=1e-7)
