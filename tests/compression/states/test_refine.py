"""Descent of one channel's kernel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from system_strategies import systems

from s4edge.compression.states.kernel_error import KernelError, convolve, output_error
from s4edge.compression.states.refine import MovablePoles, refine, solve_weights
from s4edge.systems.modes import Modes

LENGTH = 60
PROPERTY = settings(deadline=None, max_examples=30, derandomize=True)


def error_of(modes: Modes, feedthrough: float = 0.0, seed: int = 0) -> KernelError:
    """Of a channel on random walks, behind whose end silence follows."""
    walks = np.random.default_rng(seed).normal(size=(8, LENGTH)).cumsum(axis=1)
    u = torch.from_numpy(np.pad(walks, [(0, 0), (0, LENGTH)]))
    y = convolve(modes.kernel(LENGTH)[0], u) + feedthrough * u
    return output_error(u, y, LENGTH)


def kernel_of(poles: MovablePoles, weight: np.ndarray, feedthrough: float) -> np.ndarray:
    """Written out, a mode for a pair and one for a real pole."""
    steps = np.arange(LENGTH)
    kernel = (weight[:, None] * np.exp(poles.log_pole[:, None] * steps)).real.sum(axis=0)
    kernel[0] += feedthrough
    return kernel


@PROPERTY
@given(
    modes=systems(most=5, slowest=1e-3, orders=2),
    kept=st.integers(1, 3),
    feedthrough=st.booleans(),
)
def test_never_worse_and_inside_the_unit_disk(modes: Modes, kept: int, feedthrough: bool) -> None:
    error = error_of(modes, 0.3)
    start = MovablePoles.of(modes.select(np.arange(len(modes.weight)) < kept), modes)
    before = solve_weights(error, start, feedthrough)
    after = refine(error, start, feedthrough, 15)
    rounding = 1e-9 * error.constant
    assert after.error <= before.error + rounding
    # What is told is the error of what is given, and no pole is slower than the original's.
    found = error.of(kernel_of(after.poles, after.weight, after.feedthrough))
    assert found == pytest.approx(after.error, rel=1e-5, abs=rounding + 1e-300)
    slowest = modes.log_pole.real.max()
    assert (after.poles.log_pole.real <= slowest * (1 - 1e-12)).all()
    assert feedthrough or after.feedthrough == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_system_of_that_order_is_found_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    hidden = Modes.make(
        [-0.02 + 0.3j, -0.1 + 1.2j, -0.05], rng.normal(size=3) + 1j * rng.normal(size=3) + 0.5,
        np.zeros(3), 1,
    )  # fmt: skip
    error = error_of(hidden, 0.7, seed)
    moved = Modes.make(
        hidden.log_pole * np.array([1.3, 0.9, 1.5]), hidden.weight, hidden.channel, 1
    )
    found = refine(error, MovablePoles.of(moved, hidden), True, 60)
    assert found.error <= 1e-8 * error.constant
    assert found.feedthrough == pytest.approx(0.7, abs=1e-3)
    np.testing.assert_allclose(
        np.sort_complex(found.poles.log_pole), np.sort_complex(hidden.log_pole), atol=1e-3
    )


def test_the_end_is_a_stationary_point() -> None:
    rng = np.random.default_rng(3)
    modes = Modes.make(
        -(10 ** rng.uniform(-1.5, -0.5, 6)) + 1j * rng.uniform(0.1, 2.5, 6),
        rng.normal(size=6) + 1j * rng.normal(size=6), np.zeros(6), 1,
    )  # fmt: skip
    error = error_of(modes)
    start = MovablePoles.of(modes.select(np.arange(6) < 2), modes)
    end = refine(error, start, True, 200)
    for index in range(4):
        for sign in (-1, 1):
            step = np.zeros(4)
            step[index] = sign * 1e-3
            nearby = solve_weights(error, end.poles.moved(step), True)
            # It stops where a step gains a hundred-thousandth.
            assert nearby.error >= end.error * (1 - 1e-3)


def test_no_poles_leave_the_feedthrough() -> None:
    modes = Modes.make([-0.1 + 1j], [1.0], [0], 1)
    error = error_of(modes, 2.0)
    none = MovablePoles.of(Modes.make([], [], [], 1), modes)
    fit = refine(error, none, True, 10)
    assert len(fit.weight) == 0
    assert fit.feedthrough == pytest.approx(error.target[0] / error.gram[0, 0])


def test_one_sample_moves_nothing() -> None:
    """No pole is felt then, only the sum of the weights."""
    modes = Modes.make([-0.1 + 1j, -0.2], [1.0, 0.5], [0, 0], 1)
    u = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    error = output_error(u, 3 * u, 1)
    start = MovablePoles.of(modes, modes)
    with np.errstate(all="raise"):
        fit = refine(error, start, False, 10)
    np.testing.assert_array_equal(fit.poles.log_pole, start.log_pole)
    assert fit.weight.real.sum() == pytest.approx(3)
    assert fit.error == pytest.approx(0, abs=1e-6)
