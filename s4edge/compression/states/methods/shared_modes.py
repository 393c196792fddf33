"""Shared modes as a method: all channels of a layer keep one set, as those of a DSS layer have.

The layer's ``Lambda`` and step sizes are read off its poles, and reduced together: see
`s4edge.compression.states.common_poles`.
"""

from __future__ import annotations

import numpy as np
import torch

from s4edge.arrays import Complex, Float, IntPerChannel
from s4edge.compression.states.base import UNKNOWN, Reduced, ReductionMethod, Use
from s4edge.compression.states.common_poles import SharedModes, reduce_shared
from s4edge.errors import S4EdgeError
from s4edge.systems.modes import Modes

# Of poles that float32 parameters gave.
_ROUNDING = 1e-3
# At the smallest step, a frequency goes round no more often.
_TURNS = 32


def shared_truncation(modes: Modes, orders: IntPerChannel, use: Use = UNKNOWN) -> Reduced:
    """Reduce all channels together. See `s4edge.compression.states.base.Method`.

    Args:
        modes: stable systems with one ``Lambda``, in the same order in every channel.
        orders: (channels,) real states to keep, the same number for all, at least 2.
        use: ``autocorrelation`` tells how neighbouring samples of the input are correlated.

    Raises:
        S4EdgeError: the channels do not share their modes, or the orders differ.
    """
    if modes.channels == 0:
        return Reduced(modes, [], np.zeros(0))
    shared = _lambda_and_steps(modes)
    if np.unique(orders).size > 1 or orders[0] < 2:
        raise S4EdgeError(
            "shared modes are as many in every channel, at least one complex mode (2 real "
            "states): they take a state size of at least that, and no allocation by sensitivity "
            "or tolerance"
        )
    # Calibration runs without gradients, which the descent of the poles takes.
    with torch.enable_grad():
        small = reduce_shared(shared, int(orders[0]) // 2)
    reduced = Modes.from_rows(small.log_pole, small.weight[0])
    empty: list[Float] = [np.zeros(0)] * modes.channels
    return Reduced(reduced, empty, np.full(modes.channels, np.nan))


def _lambda_and_steps(modes: Modes) -> SharedModes:
    """``Lambda`` in units of the smallest step."""
    counts = np.bincount(modes.channel, minlength=modes.channels)
    if modes.is_real.any() or np.unique(counts).size > 1:
        raise _not_shared()
    log_pole = modes.log_pole.reshape(modes.channels, -1)
    damping, angle = log_pole.real, log_pole.imag
    slowest = int(np.argmin(-damping.sum(axis=1)))
    # The mode of the lowest frequency goes round in no channel and tells the steps. Others may
    # look as slow for having gone round.
    for mode in np.argsort(np.abs(angle).max(axis=0)):
        frequency, turn = _frequencies(angle, slowest, int(mode))
        steps = np.stack([damping.sum(axis=1) / damping[slowest].sum(), turn], axis=1)
        pole = damping[slowest] + 1j * frequency
        shared = SharedModes(pole, steps, modes.weight.reshape(1, modes.channels, -1))
        again: Complex = np.exp(shared.log_pole)
        if np.abs(again - np.exp(log_pole)).max() <= _ROUNDING:
            return shared
    raise _not_shared()


def _frequencies(angle: Float, slowest: int, lowest: int) -> tuple[Float, Float]:
    """Of the modes in channel ``slowest``, and what each channel multiplies them by.

    Args:
        angle: (channels, modes) of the poles.
        slowest: the channel of the smallest step.
        lowest: a mode that goes round in no channel.
    """
    turn = angle[:, lowest] / angle[slowest, lowest]
    # The other frequencies are known but for whole turns: those that fit all channels are meant.
    turns = 2 * np.pi * np.arange(-_TURNS, _TURNS + 1)
    candidates = angle[slowest][:, None] + turns
    phase = turn[:, None, None] * candidates - angle[:, :, None]
    miss = (1 - np.cos(phase)).sum(axis=0)
    best = np.argmin(miss, axis=1)
    frequency = candidates[np.arange(len(best)), best]
    rest = np.angle(np.exp(1j * (angle - turn[:, None] * frequency)))
    frequency = frequency + (turn @ rest) / (turn @ turn)
    return frequency, turn


def _not_shared() -> S4EdgeError:
    return S4EdgeError(
        "the channels of this layer do not share their modes, as those of a DSS layer do: take "
        "another --method"
    )


METHOD = ReductionMethod(
    name="shared-modes",
    reduce=shared_truncation,
    summary="one set of modes for all channels of a layer",
    told="one set of modes for all channels of a layer, balanced together",
    refinable=False,
)
