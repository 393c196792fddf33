"""Systems that run once for several samples, against the recurrences that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_systems import make
from system_strategies import systems

from s4edge.systems.modes import Modes
from s4edge.systems.realization import FASTEST
from s4edge.systems.slower import slower, slower_backward

_SAMPLES = 12


def _streamed(modes: Modes, D: float, u: np.ndarray) -> np.ndarray:
    """``y`` of one channel, sample by sample."""
    z, a = np.zeros(len(modes.weight), np.complex128), np.exp(modes.log_pole)
    y = np.zeros(len(u))
    for t, sample in enumerate(u):
        z = a * z + sample
        y[t] = D * sample + (modes.weight * z).sum().real
    return y


def _backward(modes: Modes, D: float, u: np.ndarray) -> np.ndarray:
    """The same from the end, where the first sample to come is one step away."""
    delayed = np.concatenate([[0.0], u[::-1]])[: len(u)]
    return _streamed(modes, D, delayed)[::-1]


def _held_and_averaged(run, modes: Modes, D: float, u: np.ndarray, k: int) -> np.ndarray:
    return run(modes, D, np.repeat(u, k)).reshape(-1, k).mean(axis=1)


def _input(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(_SAMPLES)


_STRIDES = st.sampled_from([1, 2, 3, 4, 7, 16])
_SEEDS = st.integers(0, 2**16)


@given(systems(), st.floats(-2, 2), _STRIDES, _SEEDS)
def test_forward_as_simulated(modes: Modes, D: float, k: int, seed: int) -> None:
    u = _input(seed)
    wanted = _held_and_averaged(_streamed, modes, D, u, k)
    made = slower(modes, np.array([D]), k)
    got = _streamed(made.modes, made.feedthrough[0], u)
    size = abs(D) + np.abs(modes.weight).sum() + np.abs(made.modes.weight).sum()
    # The norm bounds what the moved poles change, in energy.
    allowed = made.change[0] * np.linalg.norm(u) + 1e-10 * size * np.abs(u).sum()
    assert np.linalg.norm(got - wanted) <= allowed
    kept = k * modes.log_pole.real > np.log(FASTEST)
    assert (made.change[0] == 0) == bool((kept | (modes.weight == 0)).all())


@given(systems(), st.floats(-2, 2), _STRIDES, _SEEDS)
def test_backward_as_simulated(modes: Modes, D: float, k: int, seed: int) -> None:
    u = _input(seed)
    wanted = _held_and_averaged(_backward, modes, D, u, k)
    made, of_next, within = slower_backward(modes, np.array([D]), k)
    got = _backward(made, of_next[0], u) + within[0] * u
    size = abs(D) + np.abs(modes.weight).sum() * k
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-10 * size * np.abs(u).sum())


@given(systems(), st.sampled_from([2, 3]), st.sampled_from([2, 5]), _SEEDS)
def test_strides_multiply(modes: Modes, first: int, second: int, seed: int) -> None:
    """Held inputs stay held: twice slower is slower by the product."""
    once = slower(modes, np.zeros(1), first)
    twice = slower(once.modes, once.feedthrough, second)
    at_once = slower(modes, np.zeros(1), first * second)
    u = _input(seed)
    one, other = (_streamed(each.modes, each.feedthrough[0], u) for each in (twice, at_once))
    size = np.abs(modes.weight).sum() + np.abs(at_once.modes.weight).sum()
    size += np.abs(once.modes.weight).sum() + np.abs(twice.modes.weight).sum()
    changes = 2 * (twice.change + at_once.change + once.change)[0] * np.linalg.norm(u)
    assert np.linalg.norm(one - other) <= changes + 1e-10 * size * np.abs(u).sum()


@pytest.mark.parametrize("k", [2, 3, 8, 64])
def test_poles_next_to_one(k: int) -> None:
    """What a slow pole is away from 1 keeps its digits: held inputs of a sum are k of them."""
    decay = 1e-9
    made = slower(make([-decay], [1.0]), np.zeros(1), k)
    np.testing.assert_allclose(made.modes.log_pole, [-k * decay], rtol=1e-12)
    np.testing.assert_allclose(made.modes.weight, [k], rtol=1e-7)


def test_real_poles_stay_real() -> None:
    modes = make([complex(-0.1, np.pi), -0.2, complex(-0.1, 1.0)], [1.0, 1.0, 1j])
    for k, negative in ((2, False), (3, True), (7, True), (64, False)):
        made = slower(modes, np.zeros(1), k).modes
        assert made.is_real.tolist() == [True, True, False]
        assert (made.pole[0].real < 0) == negative


def test_a_stride_of_one_changes_nothing() -> None:
    modes = make([complex(-0.1, 1.0), complex(-9.0, np.pi)], [1j, 2.0])
    made = slower(modes, np.array([0.5]), 1)
    np.testing.assert_allclose(made.modes.log_pole, modes.log_pole)
    np.testing.assert_allclose(made.modes.weight, modes.weight, rtol=1e-12)
    np.testing.assert_allclose(made.feedthrough, [0.5], rtol=1e-12)
