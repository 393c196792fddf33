"""Balanced truncation of the real discrete system of each channel.

Sources: B. Moore, "Principal component analysis in linear systems" (1981); the bound
``||G - G_r||_inf <= 2 sum_{k>r} sigma_k``: D. Enns (1984), K. Glover (1984), in discrete time
U. Al-Saggaf and G. Franklin (1987). Factors and singular values: `s4edge.systems.balancing`.
"""

from __future__ import annotations

import numpy as np

from s4edge.arrays import Complex, Float, Int, IntPerChannel
from s4edge.compression.states.base import UNKNOWN, Nested, Reduced, ReductionMethod, Use
from s4edge.compression.states.methods.input_weighted import (
    cut,
    input_weighted_systems,
    input_weighted_truncation,
)
from s4edge.systems.balancing import NEGLIGIBLE, RealSystems, balancing_batches
from s4edge.systems.generators import Generators
from s4edge.systems.modes import Modes
from s4edge.systems.parallel import map_batches


def balanced_truncation(modes: Modes, orders: IntPerChannel, use: Use = UNKNOWN) -> Reduced:
    """Reduce every channel to its order. See `s4edge.compression.states.base.Method`.

    Args:
        modes: stable systems.
        orders: (channels,) real states to keep.
        use: not taken into account.
    """
    hankel: list[Float] = [np.zeros(0)] * modes.channels
    bound = np.zeros(modes.channels)
    parts: list[tuple[Complex, Complex, Int]] = []
    orders = np.asarray(orders)

    def reduce(channels: Int) -> list[tuple[Complex, Complex, Int]]:
        systems = RealSystems(Generators.of(modes.of_channels(channels)))
        U, sigma, V = systems.svd()
        for channel, values in zip(channels, sigma, strict=True):
            hankel[channel] = values
            bound[channel] = 2 * values[orders[channel] :].sum()
        largest = sigma.max(axis=1, initial=0)[:, None]
        kept = np.minimum(orders[channels], (sigma > NEGLIGIBLE * largest).sum(axis=1))
        out = []
        for order in np.unique(kept[kept > 0]):
            which = np.flatnonzero(kept == order)
            found = systems.truncate(which, U[..., :order], sigma[:, :order], V[..., :order])
            log_pole, weight, system = found
            out.append((log_pole, weight, channels[which[system]]))
        return out

    for block in map_batches(reduce, balancing_batches(modes)):
        parts += block
    parts.append((np.zeros(0, np.complex128), np.zeros(0, np.complex128), np.zeros(0, np.int64)))
    log_pole, weight, channel = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Reduced(Modes.make(log_pole, weight, channel, modes.channels), hankel, bound)


METHOD = ReductionMethod(
    name="balanced",
    reduce=balanced_truncation,
    calibrated=input_weighted_truncation,
    nested=Nested(input_weighted_systems, cut),
    summary="balanced truncation of the real system",
    told="balanced truncation of each channel’s real system",
    cuts_by_hankel=True,
)
