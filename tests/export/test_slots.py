"""Slots of ragged channels against the kernels, and the groups that they stand in."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models_by_hand import random_modes

from s4edge.export.slots import _GROUP_COST, Slots, _widths, lay_out


def impulse_response(slots: Slots, steps: int) -> np.ndarray:
    """(channels, steps): every channel gets an impulse; outputs are summed as the graph does."""
    channels = len(slots.place)
    x = np.zeros((2, len(slots.channel)))
    out = []
    for step in range(steps):
        x = x + slots.p * x + slots.q * x[::-1] + (slots.b if step == 0 else 0)
        weighted = (slots.c * x).sum(axis=0)
        sums, start = [], 0
        for count, width in slots.groups:
            part = weighted[start : start + count * width]
            sums.append(part.reshape(count, width).sum(axis=1))
            start += count * width
        out.append(np.concatenate(sums)[slots.place])
        assert len(out[-1]) == channels
    return np.stack(out, axis=1)


@pytest.mark.parametrize("seed", range(5))
def test_against_the_kernels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers = [random_modes(rng, 9), random_modes(rng, 4, most_pairs=20)]
    expected = np.concatenate([modes.kernel(15) for modes in layers])
    np.testing.assert_allclose(impulse_response(lay_out(layers), 15), expected, atol=1e-10)


def test_the_channel_of_every_slot() -> None:
    slots = lay_out([random_modes(np.random.default_rng(0), 30, most_pairs=40)])
    assert len(slots.groups) > 1
    starts = np.cumsum([0, *(n * width for n, width in slots.groups)])
    for (count, width), start in zip(slots.groups, starts, strict=False):
        rows = slots.channel[start : start + count * width].reshape(count, width)
        assert (rows == rows[:, :1]).all()
    assert sorted(slots.place) == list(range(30))


def cost(widths: list[int], counts: np.ndarray) -> float:
    chosen = np.array(widths)[np.searchsorted(widths, counts)]
    return _GROUP_COST * len(widths) + int(chosen.sum())


@settings(deadline=None)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=40))
def test_no_other_groups_cost_less(counts: list[int]) -> None:
    array = np.array(counts)
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
    assert cost([width for width, _ in ours], array) == min(cost(o, array) for o in options)
