"""Balanced truncation: theorems, invariances and a textbook implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_systems import (
    FAMILIES,
    decays,
    dense_balanced_truncation,
    dense_real,
    make,
    rounding,
    side_by_side,
    weights,
)
from system_strategies import systems

import s4edge
from s4edge.compression.states.base import Reduced
from s4edge.compression.states.methods.balanced import balanced_truncation
from s4edge.systems.balancing import NEGLIGIBLE, hankel_singular_values
from s4edge.systems.hinf import hinf_distance
from s4edge.systems.modes import Modes

PROPERTY = settings(deadline=None, max_examples=60, derandomize=True)
NOTHING = make([], [])


def reduce(modes: Modes, order: int) -> Reduced:
    return balanced_truncation(modes, np.full(modes.channels, order))


def distance(first: Modes, second: Modes) -> float:
    return float(hinf_distance(first, second)[0])


def check_theorem(modes: Modes, order: int) -> None:
    result = reduce(modes, order)
    (sigma,), (bound,), error = result.hankel, result.error_bound, distance(modes, result.modes)
    states, slack = int(result.modes.real_states[0]), rounding(modes)
    assert result.modes.is_stable.all()
    assert states == min(order, int((sigma > NEGLIGIBLE * sigma[0]).sum()))
    assert bound == pytest.approx(2 * sigma[order:].sum(), rel=1e-12)
    assert (sigma[states] if states < len(sigma) else 0) <= error + slack
    assert error <= bound + slack


@PROPERTY
@given(systems(), st.integers(0, 20))
def test_error_lies_between_the_next_singular_value_and_the_bound(modes: Modes, order: int) -> None:
    check_theorem(modes, min(order, int(modes.real_states[0])))


@pytest.mark.parametrize("family", FAMILIES)
def test_error_within_the_bound_at_every_order(family: str) -> None:
    modes = FAMILIES[family](np.random.default_rng(0), 12)
    for order in range(modes.real_states[0] + 1):
        check_theorem(modes, order)


@PROPERTY
@given(systems(slowest=1e-3))
def test_at_full_order_nothing_is_lost(modes: Modes) -> None:
    result = reduce(modes, int(modes.real_states[0]))
    scale = np.abs(modes.weight).sum()
    assert np.abs(result.modes.kernel(2000) - modes.kernel(2000)).max() <= 1e-9 * scale
    assert distance(modes, result.modes) <= rounding(modes)


@pytest.mark.parametrize("family", FAMILIES)
def test_at_full_order_large_systems_keep_their_kernel(family: str) -> None:
    # Measured: 3e-11 of the summed weights for poles with 1 - |a| = 1e-6, 1e-12 for others.
    modes = FAMILIES[family](np.random.default_rng(1), 24)
    result = reduce(modes, int(modes.real_states[0]))
    scale = np.abs(modes.weight).sum()
    assert np.abs(result.modes.kernel(20_000) - modes.kernel(20_000)).max() <= 1e-9 * scale


# Hidden systems of low order


@PROPERTY
@given(systems(most=4, slowest=1e-2, orders=2), st.integers(0, 2**32 - 1))
def test_a_hidden_system_of_low_order_is_recovered(modes: Modes, seed: int) -> None:
    rng = np.random.default_rng(seed)
    share = rng.normal(size=len(modes.weight)) + 1j * rng.normal(size=len(modes.weight))
    unused = -decays(rng, 3) + 1j * np.array([0, 1, np.pi])
    hidden = make(
        np.concatenate([modes.log_pole, modes.log_pole.conj(), unused]),
        # The other share goes to the conjugate, which is the same pair.
        np.concatenate([modes.weight * share, (modes.weight * (1 - share)).conj(), np.zeros(3)]),
    )
    expected = merge(modes)
    assume((np.abs(expected.weight) > 1e-5).all())
    (sigma,) = hankel_singular_values(expected)
    assume(sigma[-1] > 100 * NEGLIGIBLE * sigma[0])
    result = reduce(hidden, int(hidden.real_states[0]))
    assert result.modes.real_states[0] == expected.real_states[0]
    np.testing.assert_allclose(result.hankel[0][: len(sigma)], sigma, rtol=1e-7)
    assert (result.hankel[0][len(sigma) :] <= NEGLIGIBLE * sigma[0]).all()
    np.testing.assert_allclose(
        result.modes.kernel(300), expected.kernel(300), atol=1e-9 * np.abs(hidden.weight).sum()
    )


def merge(modes: Modes) -> Modes:
    """Equal poles, or a pole and another's conjugate, as one mode."""
    total: dict[complex, complex] = {}
    for pole, w in zip(modes.log_pole, modes.weight, strict=True):
        key = complex(pole.real, abs(pole.imag))
        total[key] = total.get(key, 0) + (w if pole.imag >= 0 else w.conjugate())
    return make(list(total), list(total.values()))


def test_poles_and_weights_of_a_hidden_system() -> None:
    log_pole = np.array([-0.01 + 0.5j, -0.3 + 2j, -0.05, -0.2 + np.pi * 1j])
    weight = np.array([1 + 1j, 2, 0.5, -0.3])
    hidden = make(np.r_[log_pole, log_pole, -0.7 + 1j], np.r_[0.25 * weight, 0.75 * weight, 0])
    found = reduce(hidden, 99).modes
    found = found.select(np.argsort(found.log_pole.real))
    order = np.argsort(log_pole.real)
    np.testing.assert_allclose(found.log_pole, log_pole[order], rtol=1e-11)
    np.testing.assert_allclose(found.weight, weight[order], rtol=1e-10)


def test_a_channel_without_weight_gets_no_modes() -> None:
    modes = Modes.make([-0.1 + 1j, -0.2, -0.3 + 2j], [0, 0, 1], [0, 0, 2], 3)
    result = reduce(modes, 2)
    assert result.modes.real_states.tolist() == [0, 0, 2]
    assert result.error_bound[:2].tolist() == [0, 0]


def test_no_modes_at_all() -> None:
    result = reduce(Modes.make([], [], [], 2), 4)
    assert result.modes.real_states.tolist() == [0, 0]
    assert [len(sigma) for sigma in result.hankel] == [0, 0]


def test_order_0_leaves_nothing() -> None:
    modes = make([-0.1 + 1j], [1])
    result = reduce(modes, 0)
    assert len(result.modes.weight) == 0
    assert result.error_bound[0] == pytest.approx(2 * hankel_singular_values(modes)[0].sum())


# Invariances. They hold where the order cuts between distinct singular values.


@st.composite
def cut_systems(draw: st.DrawFn) -> tuple[Modes, int]:
    modes = draw(systems(most=8, slowest=1e-3, orders=3))
    order = draw(st.integers(0, int(modes.real_states[0])))
    (sigma,) = hankel_singular_values(modes)
    if 0 < order < len(sigma):
        assume(sigma[order] < 0.9 * sigma[order - 1])
        assume(sigma[order - 1] > 1e-10 * sigma[0])
    return modes, order


def assert_same(first: Reduced, second: Reduced, modes: Modes) -> None:
    sigma = first.hankel[0]
    assert np.abs(second.hankel[0][: len(sigma)] - sigma).max() <= 1e-11 * sigma[0]
    # Measured: 1e-10.
    scale = np.abs(modes.weight).sum()
    difference = first.modes.kernel(500) - second.modes.kernel(500)
    assert np.abs(difference).max() <= 1e-8 * scale


@PROPERTY
@given(cut_systems(), st.randoms(use_true_random=False))
def test_the_order_of_the_modes_does_not_matter(case: tuple[Modes, int], random) -> None:
    modes, order = case
    shuffled = list(range(len(modes.weight)))
    random.shuffle(shuffled)
    permuted = make(modes.log_pole[shuffled], modes.weight[shuffled])
    assert_same(reduce(modes, order), reduce(permuted, order), modes)


@PROPERTY
@given(cut_systems(), st.integers(0, 2**10 - 1))
def test_a_pair_may_be_given_by_either_of_its_poles(case: tuple[Modes, int], which: int) -> None:
    modes, order = case
    flip = (which >> np.arange(len(modes.weight))) & 1 == 1
    conjugated = make(
        np.where(flip, modes.log_pole.conj(), modes.log_pole),
        np.where(flip, modes.weight.conj(), modes.weight),
    )
    assert_same(reduce(modes, order), reduce(conjugated, order), modes)


@PROPERTY
@given(cut_systems(), st.complex_numbers(max_magnitude=3))
def test_a_mode_may_be_split_in_two(case: tuple[Modes, int], share: complex) -> None:
    modes, order = case
    w = modes.weight[0]
    split = make(
        np.append(modes.log_pole, modes.log_pole[0]),
        np.concatenate([[w * share], modes.weight[1:], [w * (1 - share)]]),
    )
    assert_same(reduce(modes, order), reduce(split, order), modes)


@PROPERTY
@given(cut_systems(), st.sampled_from([-1.0, 1e-20, -3e7, 4.0**30]))
def test_a_scaled_system_is_reduced_to_the_scaled_system(
    case: tuple[Modes, int], scale: float
) -> None:
    modes, order = case
    plain, scaled = reduce(modes, order), reduce(make(modes.log_pole, scale * modes.weight), order)
    back = Modes(scaled.modes.log_pole, scaled.modes.weight / scale, scaled.modes.channel, 1)
    hankel = [scaled.hankel[0] / abs(scale)]
    assert_same(plain, Reduced(back, hankel, scaled.error_bound / abs(scale)), modes)
    atol = 1e-13 * plain.hankel[0][0]
    np.testing.assert_allclose(
        scaled.error_bound / abs(scale), plain.error_bound, rtol=1e-9, atol=atol
    )


@PROPERTY
@given(cut_systems())
def test_alternating_the_kernels_sign_alternates_the_reduced_kernels(
    case: tuple[Modes, int],
) -> None:
    modes, order = case
    plain, turned = (
        reduce(modes, order),
        reduce(make(modes.log_pole + np.pi * 1j, modes.weight), order),
    )
    back = make(turned.modes.log_pole + np.pi * 1j, turned.modes.weight)
    assert_same(plain, Reduced(back, turned.hankel, turned.error_bound), modes)


@settings(PROPERTY, max_examples=25)
@given(cut_systems(), st.integers(2, 3))
def test_repeated_singular_values_are_harmless(case: tuple[Modes, int], step: int) -> None:
    # A kernel with zeros put between its samples has every singular value `step` times.
    modes, order = case
    (sigma,) = hankel_singular_values(modes)
    both = np.r_[modes.log_pole, modes.log_pole.conj()]
    half = np.r_[modes.weight, modes.weight.conj()] / 2
    roots = (both + 2j * np.pi * np.arange(step)[:, None]) / step
    shift = (step - 1) * roots
    late = make(roots.ravel(), (half / step * np.exp(-shift)).ravel())
    kernel = late.kernel(step * 100)[0]
    scale = np.abs(late.weight).sum()
    np.testing.assert_allclose(kernel[step - 1 :: step], modes.kernel(100)[0], atol=1e-11 * scale)
    found = hankel_singular_values(late)[0][: step * len(sigma)]
    assert np.abs(found - np.repeat(sigma, step)).max() <= 1e-10 * sigma[0] + 1e-13 * scale
    check_theorem(late, order)


@pytest.mark.parametrize(
    ("log_pole", "weight"),
    [([np.log(0.5), np.log(0.5) + np.pi * 1j], [1, -1]), ([np.log(0.5) + 0.5j * np.pi], [1j])],
)
def test_a_cut_between_two_equal_singular_values(log_pole: list, weight: list) -> None:
    modes = make(log_pole, weight)
    (sigma,) = hankel_singular_values(modes)
    assert sigma[0] == pytest.approx(sigma[1], rel=1e-14)
    check_theorem(modes, 1)


# Several channels


def several_channels() -> tuple[Modes, list[Modes], np.ndarray]:
    rng = np.random.default_rng(3)
    parts = [FAMILIES[family](rng, n) for family in FAMILIES for n in (3, 6)]
    parts.insert(2, NOTHING)
    parts.insert(5, make([-0.1 + 1j], [0]))
    together = side_by_side(parts)
    return together, parts, np.minimum(together.real_states, rng.integers(0, 8, len(parts)))


def test_channels_are_independent() -> None:
    together, parts, orders = several_channels()
    result = balanced_truncation(together, orders)
    assert result.modes.channels == len(parts)
    for channel, part in enumerate(parts):
        alone = reduce(part, int(orders[channel]))
        found = result.modes.of_channels(np.array([channel]))
        assert found.real_states[0] == alone.modes.real_states[0] <= orders[channel]
        np.testing.assert_allclose(result.hankel[channel], alone.hankel[0], rtol=1e-12, atol=0)
        assert result.error_bound[channel] == pytest.approx(alone.error_bound[0], rel=1e-12)
        scale = np.abs(part.weight).sum()
        np.testing.assert_allclose(found.kernel(300), alone.modes.kernel(300), atol=1e-9 * scale)


def test_what_goes_in_stays_as_it_is() -> None:
    together, _, orders = several_channels()
    before = [array.copy() for array in (together.log_pole, together.weight, together.channel)]
    balanced_truncation(together, orders)
    for array, copy in zip(
        (together.log_pole, together.weight, together.channel), before, strict=True
    ):
        assert (array == copy).all()


# The textbook's method


@pytest.mark.parametrize("seed", range(10))
def test_textbook_implementation_gives_the_same_kernels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angle = np.array([0, np.pi, 0.4, 1.3, 2.4])[: 2 + seed % 4]
    modes = make(-rng.uniform(0.05, 0.5, len(angle)) + 1j * angle, weights(rng, len(angle)))
    system = dense_real(modes)
    for order in range(1, modes.real_states[0] + 1):
        expected, sigma = dense_balanced_truncation(system, order)
        result = reduce(modes, order)
        np.testing.assert_allclose(result.hankel[0], sigma, rtol=1e-8)
        scale = np.abs(modes.weight).sum()
        np.testing.assert_allclose(
            result.modes.kernel(200)[0], expected.kernel(200), atol=1e-8 * scale
        )


def test_one_pole_of_two_by_hand() -> None:
    # A pair on the imaginary axis: K = rho^k cos(pi k / 2). Its Hankel matrix splits into even
    # and odd rows; order 1 keeps the even part: B = C = 1 / (1 - rho^4)^(1/2) balanced, a = 0.
    rho = 0.8
    modes = make([np.log(rho) + 0.5j * np.pi], [1])
    (sigma,) = hankel_singular_values(modes)
    np.testing.assert_allclose(sigma, np.array([1, rho * rho]) / (1 - rho**4), rtol=1e-13)
    result = reduce(modes, 1)
    np.testing.assert_allclose(result.modes.kernel(3), [[1, 0, 0]], atol=1e-14)


# What readers deliver


@pytest.mark.parametrize("name", ["mnist_s4d", "spoken_digits_s4d", "mnist_dss_exp"])
def test_trained_layers(name: str, shared: Path) -> None:
    model = s4edge.load(shared / "checkpoints" / "trained" / f"{name}.pt")
    for block in model.blocks[:1]:
        modes = block.systems.modes()
        for order in (4, 16):
            result = reduce(modes, order)
            sigma = np.array(result.hankel)
            error = hinf_distance(modes, result.modes)
            assert result.modes.is_stable.all()
            assert (result.modes.real_states == np.minimum(order, (sigma > 0).sum(axis=1))).all()
            slack = 1e-9 * sigma[:, 0]
            assert (sigma[:, order] <= error + slack).all()
            assert (error <= result.error_bound + slack).all()
