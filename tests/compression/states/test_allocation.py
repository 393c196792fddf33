"""Allocation of a total over channels, against all ways of spending it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s4edge.compression.states.allocation import Curves, lower_hull, walk

ORDERS = np.array([0, 1, 2, 4])
PROPERTY = settings(deadline=None, max_examples=100, derandomize=True)


def curves(error: np.ndarray) -> Curves:
    return Curves(np.broadcast_to(ORDERS, error.shape), error)


errors = st.lists(
    st.lists(st.floats(0, 10), min_size=4, max_size=4), min_size=1, max_size=4
).map(np.array)  # fmt: skip


@PROPERTY
@given(error=errors)
def test_on_the_way_no_other_choice_is_better(error: np.ndarray) -> None:
    falling = np.minimum.accumulate(error, axis=1)
    found = walk(curves(error))
    assert (np.diff(found.error) <= 1e-12).all()
    for total, sum_of_errors in zip(found.total, found.error, strict=True):
        best = min(
            sum(row[i] for row, i in zip(falling, choice, strict=True))
            for choice in itertools.product(range(4), repeat=len(error))
            if ORDERS[list(choice)].sum() <= total
        )
        assert sum_of_errors == pytest.approx(best, abs=1e-9)


@PROPERTY
@given(error=errors, total=st.integers(0, 20))
def test_a_total_is_never_overspent(error: np.ndarray, total: int) -> None:
    found = walk(curves(error))
    orders = found.orders_within(total)
    assert orders.sum() <= total
    assert set(orders) <= set(ORDERS)
    spent = sum(row[np.flatnonzero(r == ORDERS)[0]] for row, r in zip(error, orders, strict=True))
    within = found.error[np.searchsorted(found.total, total, side="right") - 1]
    assert spent <= within + 1e-9


@PROPERTY
@given(error=errors, tolerance=st.floats(0, 20))
def test_the_smallest_total_is_enough_and_needed(error: np.ndarray, tolerance: float) -> None:
    found = walk(curves(error))
    total = found.smallest_total(tolerance)
    if total is None:
        assert found.error.min() > tolerance
        return
    at = list(found.total).index(total)
    assert found.error[at] <= tolerance
    assert at == 0 or found.error[at - 1] > tolerance


def test_channels_of_different_sizes() -> None:
    order = np.array([[0, 1, 2, 6], [0, 1, 2, 2]])
    error = np.array([[9.0, 5.0, 4.0, 0.0], [1.0, 0.5, np.nan, 0.0]])
    found = walk(Curves(order, error))
    assert found.orders_within(8).tolist() == [6, 2]
    assert found.orders_within(1).tolist() == [1, 0]


def test_the_hull() -> None:
    assert lower_hull(np.array([0, 1, 2, 3]), np.array([4.0, 3.9, 1.0, 0.9])) == [0, 2, 3]
    assert lower_hull(np.array([0, 1, 2]), np.array([2.0, 1.0, 0.0])) == [0, 2]
    assert lower_hull(np.array([5]), np.array([2.0])) == [0]
