"""Shared modes as a method."""

from __future__ import annotations

import numpy as np
import pytest

from s4edge.compression.states.methods.shared_modes import shared_truncation
from s4edge.errors import S4EdgeError
from s4edge.systems.modes import Modes

CHANNELS, MODES = 6, 12


def layer(seed: int, spread: float = 3.0) -> tuple[Modes, np.ndarray]:
    """Channels with one Lambda; at large steps frequencies go round."""
    rng = np.random.default_rng(seed)
    frequency = np.concatenate([[0.01], rng.uniform(-1, 1, MODES - 1)])
    pole = -rng.uniform(0.001, 0.01, MODES) + 1j * frequency
    step = np.exp(rng.uniform(0, spread, CHANNELS))
    weight = rng.normal(size=(CHANNELS, MODES)) + 1j * rng.normal(size=(CHANNELS, MODES))
    return Modes.from_rows(step[:, None] * pole, weight), step


@pytest.mark.parametrize("seed", range(5))
def test_modes_stay_shared(seed: int) -> None:
    modes, step = layer(seed)
    reduced = shared_truncation(modes, np.full(CHANNELS, 8)).modes
    assert reduced.is_stable.all()
    assert (reduced.real_states == 8).all()
    decay = reduced.log_pole.real.reshape(CHANNELS, -1) / step[:, None]
    np.testing.assert_allclose(decay, np.broadcast_to(decay[0], decay.shape), rtol=1e-6)


def test_a_hidden_small_layer_is_recovered() -> None:
    modes, _ = layer(0, spread=1.0)
    loud = np.arange(MODES) < 4
    weight = modes.weight.reshape(CHANNELS, MODES) * np.where(loud, 1, 1e-9)
    hidden = Modes.from_rows(modes.log_pole.reshape(CHANNELS, MODES), weight)
    reduced = shared_truncation(hidden, np.full(CHANNELS, 8)).modes
    difference = np.abs(reduced.kernel(200) - hidden.kernel(200)).max()
    assert difference <= 1e-5 * np.abs(hidden.kernel(200)).max()


def test_what_is_not_shared_is_refused() -> None:
    modes, _ = layer(0)
    with pytest.raises(S4EdgeError, match="no allocation"):
        shared_truncation(modes, np.array([8, 8, 8, 8, 8, 6]))
    own = Modes.make(
        modes.log_pole * np.random.default_rng(0).uniform(0.5, 1, len(modes.log_pole)),
        modes.weight, modes.channel, CHANNELS,
    )  # fmt: skip
    with pytest.raises(S4EdgeError, match="do not share"):
        shared_truncation(own, np.full(CHANNELS, 8))
