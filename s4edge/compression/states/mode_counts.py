"""Reduction to a number of modes per channel, where a layout gives a real pole a pair's place."""

from __future__ import annotations

import dataclasses

import numpy as np

from s4edge.arrays import FloatPerChannel, IntPerChannel
from s4edge.compression.states.base import Method
from s4edge.systems.modes import Modes


def reduce_to_mode_count(modes: Modes, slots: int, method: Method) -> tuple[Modes, FloatPerChannel]:
    """Reduce every channel to at most ``slots`` modes, pairs and real poles counted alike.

    A channel keeps the highest order, at most ``2 * slots``, at which its modes fit; channels
    whose modes fit are kept as they are.

    Args:
        modes: stable systems.
        slots: at least 1.
        method: of reduction.

    Returns:
        The reduced systems and the error bound of each channel, nan where there is none.
    """
    bound = np.zeros(modes.channels)
    orders = np.minimum(2 * slots, modes.real_states)
    open_ = np.flatnonzero(_used(modes) > slots)
    done = modes.select(~np.isin(modes.channel, open_))
    while len(open_):
        result = method(modes.of_channels(open_), orders[open_])
        fits = _used(result.modes) <= slots
        bound[open_[fits]] = result.error_bound[fits]
        # One state fewer, and a pair takes the place of two real poles or one of them goes.
        orders[open_[~fits]] -= 1
        fitting = result.modes.select(fits[result.modes.channel])
        fitting = dataclasses.replace(
            fitting, channel=open_[fitting.channel], channels=modes.channels
        )
        done = Modes.concatenate([done, fitting])
        open_ = open_[~fits]
    return done, bound


def _used(modes: Modes) -> IntPerChannel:
    """(channels,) places taken."""
    return np.bincount(modes.channel, minlength=modes.channels)
