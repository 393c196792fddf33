"""Measured H-infinity norms of differences between systems."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from s4edge.model.modes import Modes, expm1

Float = NDArray[np.float64]

# Where a resonance of half-width 1 - |a| can peak, in half-widths from the pole's angle.
_AROUND = np.array([-8, -4, -2, -1, -0.5, -0.25, 0, 0.25, 0.5, 1, 2, 4, 8])
_UNIFORM = 129
_REFINED = 12
_ROUNDS = 18


def frequency_response(modes: Modes, omega: Float) -> NDArray[np.complex128]:
    """``sum_k K[k] exp(-i omega k)`` of stable systems.

    Args:
        modes: the systems.
        omega: (channels, points) radians per sample.

    Returns:
        (channels, points).
    """
    log_pole, weight = modes.padded()
    out = np.zeros(omega.shape, dtype=np.complex128)
    # A mode and its conjugate, half the weight each; mode by mode to bound the memory.
    for column in range(log_pole.shape[1]):
        pole, w = log_pole[:, column, None], weight[:, column, None]
        out -= 0.5 * w / expm1(pole - 1j * omega)
        out -= 0.5 * w.conj() / expm1(pole.conj() - 1j * omega)
    return out


def hinf_distance(first: Modes, second: Modes) -> Float:
    """(channels,) largest gain of the difference of two sets of stable systems, as found.

    The difference is sampled uniformly and around the angle of every pole as wide as its resonance,
    and the highest points are refined by a ternary search. What is found is attained, so it is a
    lower bound of the norm; it is the norm to about 1e-6 relative unless a peak lies between
    samples.
    """
    difference = Modes.concatenate(
        [first, Modes(second.log_pole, -second.weight, second.channel, second.channels)]
    )
    log_pole, _ = difference.padded()
    channels = difference.channels
    near = np.abs(log_pole.imag)[..., None] - np.expm1(log_pole.real)[..., None] * _AROUND
    omega = np.concatenate(
        [
            np.broadcast_to(np.linspace(0, np.pi, _UNIFORM), (channels, _UNIFORM)),
            np.clip(near.reshape(channels, -1), 0, np.pi),
        ],
        axis=1,
    )
    omega.sort(axis=1)
    gain = np.abs(frequency_response(difference, omega))
    edge = np.full((channels, 1), -1.0)
    left, right = np.hstack([edge, gain[:, :-1]]), np.hstack([gain[:, 1:], edge])
    peaks = np.where((gain >= left) & (gain >= right), gain, -1.0)
    top = np.argsort(-peaks, axis=1)[:, :_REFINED]
    low = np.take_along_axis(omega, np.maximum(top - 1, 0), axis=1)
    high = np.take_along_axis(omega, np.minimum(top + 1, omega.shape[1] - 1), axis=1)
    best = gain.max(axis=1)
    for _ in range(_ROUNDS):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        both = np.abs(frequency_response(difference, np.hstack([a, b])))
        best = np.maximum(best, both.max(axis=1))
        rising = both[:, : a.shape[1]] < both[:, a.shape[1] :]
        low, high = np.where(rising, a, low), np.where(rising, high, b)
    return best
