"""Slots of ragged channels against the kernels, and the groups that they stand in."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models_by_hand import random_modes

from s4edge.export.onnx.slots import (
    _GROUP_COST,
    _MOST_FILLED,
    _SORTING_COST,
    Slots,
    _widths,
    lay_out,
)
from s4edge.systems.modes import Modes


def by_channel(slots: Slots, values: np.ndarray) -> np.ndarray:
    """(..., channels) sums over the slots of (..., 2, slots), in the channels' own order."""
    sums, start = [], 0
    for channels, width in slots.groups:
        part = values[..., start : start + channels * width]
        sums.append(part.reshape(*values.shape[:-1], width, channels).sum(axis=(-3, -2)))
        start += channels * width
    return np.concatenate(sums, axis=-1)[..., np.argsort(slots.order)]


def impulse_response(slots: Slots, steps: int) -> np.ndarray:
    """(channels, steps): every channel gets an impulse; outputs are summed as the graph does."""
    p, q = slots.power(1)
    x = slots.entering()
    out = [by_channel(slots, x)]
    for _ in range(steps - 1):
        x = x + p * x + q * x[::-1]
        out.append(by_channel(slots, x))
    return np.stack(out, axis=1)


def layers_of(seed: int) -> tuple[Slots, np.ndarray]:
    """Slots of two ragged layers, and their kernels (channels, 15)."""
    rng = np.random.default_rng(seed)
    layers = [random_modes(rng, 9), random_modes(rng, 4, most_pairs=20)]
    return lay_out(layers), np.concatenate([modes.kernel(15) for modes in layers])


@pytest.mark.parametrize("seed", range(5))
def test_against_the_kernels(seed: int) -> None:
    slots, expected = layers_of(seed)
    np.testing.assert_allclose(impulse_response(slots, 15), expected, atol=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_several_steps_at_once(seed: int) -> None:
    slots, kernels = layers_of(seed)
    p, q = slots.power(4)
    x = slots.entering(3)
    later = x + p * x + q * x[::-1]
    np.testing.assert_allclose(later, slots.entering(7), atol=1e-12)
    np.testing.assert_allclose(by_channel(slots, x), kernels[:, 3], atol=1e-10)
    np.testing.assert_allclose(by_channel(slots, slots.leaving(5) * x), kernels[:, 8], atol=1e-10)


def test_every_channel_stands_once() -> None:
    rng = np.random.default_rng(0)
    slots = lay_out([random_modes(rng, 300, most_pairs=2), random_modes(rng, 30, most_pairs=40)])
    assert len(slots.groups) > 1
    assert not slots.in_order
    assert sorted(slots.order) == list(range(330))
    assert sum(channels for channels, _ in slots.groups) == 330
    assert slots.count < 3000  # and not 330 times 41
    uniform = lay_out([random_modes(np.random.default_rng(0), 5, most_pairs=0)])
    assert uniform.count == sum(channels * width for channels, width in uniform.groups)


def filled_up(widths: list[int], counts: np.ndarray) -> np.ndarray:
    """(channels,) slots of each."""
    return np.array(widths)[np.searchsorted(widths, counts)]


def cost(widths: list[int], counts: np.ndarray) -> float:
    chosen = filled_up(widths, counts)
    sorting = _SORTING_COST if len(set(chosen)) > 1 else 0
    return _GROUP_COST * len(widths) + sorting + int(chosen.sum())


# Close together, and spread out so that what a group costs is weighed against what it fills up.
COUNTS = st.lists(st.integers(1, 60), min_size=1, max_size=40) | st.lists(
    st.sampled_from([1, 3, 9, 27, 80, 240]), min_size=3, max_size=30
)


@settings(deadline=None)
@given(COUNTS, st.sampled_from([1, 20, 60]))
def test_no_other_groups_of_few_enough_slots_cost_less(counts: list[int], times: int) -> None:
    array = np.array(counts * times)
    found = sorted(set(counts))[-6:]  # all subsets of a few
    array = array[array >= found[0]]
    ours = _widths(array)
    assert [least for _, least in ours] == [0, *(width for width, _ in ours[:-1])]
    assert all(a < b for a, b in pairwise(width for width, _ in ours))
    options = [
        sorted({*some, found[-1]})
        for size in range(len(found) + 1)
        for some in combinations(found, size)
    ]
    widths = [width for width, _ in ours]
    assert filled_up(widths, array).sum() <= _MOST_FILLED * array.sum()
    best = min(options, key=lambda option: cost(option, array))
    if filled_up(best, array).sum() <= _MOST_FILLED * array.sum():
        assert cost(widths, array) == cost(best, array)


def test_pairs_that_hardly_turn_keep_their_digits_in_float32() -> None:
    """Their kernel is close to that of a double real pole; their weights are huge."""
    decay, weights, angles = np.array([-0.05, -0.3]), np.array([2.0, 0.0]), np.array([2e-6, 1e-4])
    weight = weights - 1j * np.array([0.4, 3.0]) / angles
    slots = lay_out([Modes.make(decay + 1j * angles, weight, [0, 1], 2)])
    k = np.arange(60)
    # K[k] = Re(w a^k), the sine of a small angle as it is.
    sine = np.array([0.4, 3.0])[:, None] / angles[:, None] * np.sin(k * angles[:, None])
    kernel = np.exp(k * decay[:, None]) * (weights[:, None] * np.cos(k * angles[:, None]) + sine)
    np.testing.assert_allclose(impulse_response(slots, 60), kernel, atol=1e-9)

    p, q = (each.astype(np.float32) for each in slots.power(1))
    x = slots.entering().astype(np.float32)
    for step in k:
        found = by_channel(slots, x)
        np.testing.assert_allclose(found, kernel[:, step], atol=1e-5 * np.abs(kernel).max())
        x = x + (p * x + q * x[::-1])
    # Several steps at once are the same.
    later = slots.power(7)
    x = slots.entering(2)
    x = x + later[0] * x + later[1] * x[::-1]
    np.testing.assert_allclose(x, slots.entering(9), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(by_channel(slots, slots.leaving(3) * x), kernel[:, 12], atol=1e-8)
