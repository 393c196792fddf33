"""Modal truncation: keep the modes of largest peak gain, as they are.

A baseline: what the modes have in common is not used. A mode is a real pole or a conjugate pair,
its score the H-infinity norm of its part of the transfer function, and the sum of the discarded
scores bounds the error.

Source: A. Varga, "Enhanced modal approach for model reduction" (1995), for modal dominance measured
by norms of the partial fractions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from s4edge.arrays import Float, IntPerChannel
from s4edge.compression.states.base import UNKNOWN, Reduced, ReductionMethod, Use
from s4edge.systems.hinf import hinf_distance
from s4edge.systems.modes import Modes

# By which measured peaks may fall short of the norm.
_MARGIN = 1e-5


def modal_truncation(modes: Modes, orders: IntPerChannel, use: Use = UNKNOWN) -> Reduced:
    """Reduce every channel to its order. See `s4edge.compression.states.base.Method`."""
    modes = _merged(modes)
    gain = peak_gains(modes)
    keep = np.zeros(len(gain), dtype=bool)
    cost, left = np.where(modes.is_real, 1, 2), np.array(orders)
    for mode in np.argsort(-gain, kind="stable"):
        channel = modes.channel[mode]
        # A pair that no longer fits leaves its place to the next real pole.
        keep[mode] = cost[mode] <= left[channel]
        left[channel] -= cost[mode] * keep[mode]
    bound: Any = np.bincount(modes.channel, weights=gain * ~keep, minlength=modes.channels)
    none = [np.zeros(0)] * modes.channels
    return Reduced(modes.select(keep), none, bound * (1 + _MARGIN))


def peak_gains(modes: Modes) -> Float:
    """(modes,) H-infinity norm of each mode, together with its conjugate."""
    count = len(modes.weight)
    each = Modes(modes.log_pole, modes.weight, np.arange(count), count)
    nothing = Modes.make([], [], [], count)
    return hinf_distance(each, nothing) if count else np.zeros(0)


def _merged(modes: Modes) -> Modes:
    """Equal poles, or a pole and another's conjugate, as one mode; modes of weight 0 left out."""
    upper = modes.log_pole.imag >= 0
    log_pole = np.where(upper, modes.log_pole, modes.log_pole.conj())
    weight = np.where(upper, modes.weight, modes.weight.conj())
    keys = np.stack([modes.channel, log_pole.real, log_pole.imag])
    _, first, which = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    total = np.zeros(len(first), dtype=np.complex128)
    np.add.at(total, which.reshape(-1), weight)
    merged = Modes.make(log_pole[first], total, modes.channel[first], modes.channels)
    return merged.select(merged.weight != 0)


METHOD = ReductionMethod(
    name="modal",
    reduce=modal_truncation,
    summary="the modes of largest peak gain, kept as they are",
    told="the modes of largest peak gain of each channel",
)
