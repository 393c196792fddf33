"""What is known of a reduced channel's error: bounds from both sides, and what was measured.

Whatever the method, the error system itself is at hand: its H-infinity norm is at most twice the
sum of its own Hankel singular values, and no system of that order comes closer than the next Hankel
singular value of the original (K. Glover, 1984).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from s4edge.arrays import FloatPerChannel, IntPerChannel
from s4edge.systems.balancing import hankel_singular_values
from s4edge.systems.h2 import h2_distance
from s4edge.systems.hinf import hinf_distance
from s4edge.systems.modes import Modes


@dataclass(frozen=True)
class Certificates:
    """Of the errors of channels, each (channels,).

    Attributes:
        hinf: measured H-infinity norm.
        h2: H2 norm, exact.
        bound: upper bound of the H-infinity norm.
        lower: no system of the reduced order has a smaller H-infinity error.
    """

    hinf: FloatPerChannel
    h2: FloatPerChannel
    bound: FloatPerChannel
    lower: FloatPerChannel


def certify(
    before: Modes,
    reduced: Modes,
    stored: Modes,
    feedthrough: FloatPerChannel,
    bound: FloatPerChannel,
) -> Certificates:
    """Compare systems with what was stored of their reduction.

    Args:
        before: stable systems.
        reduced: what the method gave.
        stored: the same, as it is kept: rounded to the parameters' precision.
        feedthrough: (channels,) by how much ``D`` was changed.
        bound: (channels,) the method's own, nan where it has none.
    """
    changed = np.flatnonzero((stored.real_states < before.real_states) | (feedthrough != 0))
    out = Certificates(*(np.zeros(before.channels) for _ in range(4)))
    if not len(changed):
        return out
    old, new, kept = (each.of_channels(changed) for each in (before, reduced, stored))
    shift = feedthrough[changed]
    kept_and_shift = Modes.concatenate([kept, Modes.constant(shift)])
    out.hinf[changed] = hinf_distance(old, kept_and_shift)
    out.h2[changed] = h2_distance(old, kept_and_shift)
    said = np.isfinite(bound[changed])
    known, unknown = np.flatnonzero(said), np.flatnonzero(~said)
    # The parameters' rounding adds to what theory says of the method.
    rounding = hinf_distance(new.of_channels(known), kept.of_channels(known))
    out.bound[changed[known]] = bound[changed[known]] + rounding
    if len(unknown):
        difference = old.of_channels(unknown).minus(kept.of_channels(unknown))
        twice = np.array([2 * sigma.sum() for sigma in hankel_singular_values(difference)])
        out.bound[changed[unknown]] = twice + np.abs(shift[unknown])
    out.lower[changed] = _next_singular_value(old, kept.real_states, shift != 0)
    return out


def _next_singular_value(modes: Modes, orders: IntPerChannel, free: Any) -> FloatPerChannel:
    """Of the kernel from its first sample on, or from the second where ``D`` is free."""
    weight = np.where(free[modes.channel], modes.weight * modes.pole, modes.weight)
    shifted = Modes.make(modes.log_pole, weight, modes.channel, modes.channels)
    values = hankel_singular_values(shifted)
    return np.array(
        [sigma[r] if r < len(sigma) else 0.0 for sigma, r in zip(values, orders, strict=True)]
    )
