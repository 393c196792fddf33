"""What all tests of reduction methods use: methods by name, errors with the feed-through."""

from __future__ import annotations

import numpy as np
from random_systems import Rng, make, weights

from s4edge.compression.states.base import Reduced, Use
from s4edge.compression.states.methods.registry import METHODS
from s4edge.systems.hinf import hinf_distance
from s4edge.systems.modes import Modes

NOTHING = make([], [])
USE = Use(horizon=300)


def reduce(method: str, modes: Modes, order: int | np.ndarray) -> Reduced:
    orders = np.broadcast_to(order, (modes.channels,))
    return METHODS[method].reduce(modes, np.minimum(orders, modes.real_states), USE)


def feedthrough(result: Reduced) -> np.ndarray:
    given = result.feedthrough
    return np.zeros(result.modes.channels) if given is None else given


def kernel(result: Reduced, length: int) -> np.ndarray:
    out = result.modes.kernel(length)
    out[:, 0] += feedthrough(result)
    return out


def with_constant(result: Reduced) -> Modes:
    """The feed-through as a mode that is over after one sample."""
    D = feedthrough(result)
    return Modes.concatenate(
        [result.modes, Modes.make(np.full(len(D), -700.0), D, np.arange(len(D)), len(D))]
    )


def error(modes: Modes, result: Reduced) -> float:
    """H-infinity norm of one channel's error."""
    return float(hinf_distance(modes, with_constant(result))[0])


def minus(first: Modes, second: Modes) -> Modes:
    """Written out, not to check the library by itself."""
    return Modes.concatenate(
        [first, Modes(second.log_pole, -second.weight, second.channel, second.channels)]
    )


def from_second_sample(modes: Modes) -> Modes:
    """Modes of ``K[1], K[2], ...``."""
    return Modes.make(modes.log_pole, modes.weight * modes.pole, modes.channel, modes.channels)


def well_conditioned(seed: int, modes: int = 6) -> Modes:
    """Poles of all kinds, not too near the circle or each other."""
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0.1, 3.0, modes))
    angle[: seed % 3] = np.array([0, np.pi])[: seed % 3]
    return make(-rng.uniform(0.03, 0.5, modes) + 1j * angle, weights(rng, modes))


def slow_systems(rng: Rng, channels: int, modes: int = 8) -> Modes:
    log_pole = -(10 ** rng.uniform(-4, -1, (channels, modes))) + 1j * rng.uniform(
        0.05, 3, (channels, modes)
    )
    return Modes.from_rows(log_pole, weights(rng, (channels, modes)))
