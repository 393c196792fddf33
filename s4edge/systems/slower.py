"""Systems that run once for several samples: input held, output averaged.

A system that sees its input held for ``k`` samples and gives the mean of its outputs over them is
again diagonal. With ``S = (1 - a^k) / (1 - a)``, the sum of the input's weights over a held sample
and of the output's over an averaged one, the response from one such sample to one ``m >= 1`` later
is ``w a^(1 - k) S^2 / k (a^k)^m``: a mode of pole ``a^k``. Within a sample it is
``D + w sum_{j<k} (k - j) a^j / k``, and ``D`` takes what the mode does not give.

Forward, poles with ``|a^k|`` below `FASTEST` are moved there: all that is left of them is the next
sample, which stays exact, and a weight ``w a^-k`` would cancel against ``D``. All others are exact.
Backward no pole is moved: the first sample to come has the weight ``w S^2 / k`` itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from s4edge.arrays import Complex, FloatPerChannel
from s4edge.systems.modes import Modes, expm1
from s4edge.systems.realization import FASTEST


@dataclass(frozen=True)
class Slower:
    """Systems of held inputs and averaged outputs.

    Attributes:
        modes: of them.
        feedthrough: (channels,) ``D``.
        change: (channels,) a bound on the H-infinity norm of what moving fast poles has changed.
    """

    modes: Modes
    feedthrough: FloatPerChannel
    change: FloatPerChannel


def slower(modes: Modes, feedthrough: FloatPerChannel, k: int) -> Slower:
    """Systems that run forward, ``y_t = D u_t + Re sum_n w_n sum_{j>=0} a_n^j u_{t-j}``.

    Args:
        modes: ``a`` and ``w``; growing ones are as exact as others.
        feedthrough: (channels,) ``D``.
        k: samples that become one.
    """
    at_once = _summed(modes, modes.weight * _within(modes, k, 0))
    # What one sample gives the next.
    weight = modes.weight * modes.pole * _held(modes, k) ** 2 / k
    log_pole = _powers(modes, k)
    moved = np.maximum(log_pole.real, np.log(FASTEST)) + 1j * log_pole.imag
    distance = np.abs(weight) * np.abs(np.exp(moved) - np.exp(log_pole)) / (1 - FASTEST) ** 2
    change = np.bincount(modes.channel, weights=distance, minlength=modes.channels)
    made = Modes.make(moved, weight / np.exp(moved), modes.channel, modes.channels)
    return Slower(made, feedthrough + at_once - _summed(made, made.weight), np.asarray(change))


def slower_backward(
    modes: Modes, feedthrough: FloatPerChannel, k: int
) -> tuple[Modes, FloatPerChannel, FloatPerChannel]:
    """Systems that run backward, ``y_t = D u_{t+1} + Re sum_n w_n sum_{j>=0} a_n^j u_{t+1+j}``.

    Args:
        modes: ``a`` and ``w``.
        feedthrough: (channels,) ``D``.
        k: samples that become one.

    Returns:
        Modes and ``D`` (channels,), and what samples within one give each other, (channels,): a
        ``D`` of the systems that run forward beside them.
    """
    within = feedthrough * (k - 1) / k + _summed(modes, modes.weight * _within(modes, k, 1))
    weight = modes.weight * _held(modes, k) ** 2 / k
    made = Modes.make(_powers(modes, k), weight, modes.channel, modes.channels)
    return made, feedthrough / k, within


def _held(modes: Modes, k: int) -> Complex:
    """(modes,) ``1 + a + ... + a^(k-1)``."""
    below = expm1(modes.log_pole)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(below == 0, k, expm1(k * modes.log_pole) / below))


def _within(modes: Modes, k: int, delay: int) -> Complex:
    """(modes,) ``sum_j (k - j) a^(j - delay) / k`` over the ``j`` from ``delay`` up."""
    total = np.zeros(len(modes.log_pole), np.complex128)
    for j in range(delay, k):
        total += (k - j) / k * np.exp((j - delay) * modes.log_pole)
    return total


def _powers(modes: Modes, k: int) -> Complex:
    """(modes,) ``log a^k``."""
    log_pole = k * modes.log_pole
    # A product of angles would miss the real axis by rounding.
    angle = np.pi * ((modes.log_pole.imag == np.pi) & (k % 2 == 1))
    return np.asarray(np.where(modes.is_real, log_pole.real + 1j * angle, log_pole))


def _summed(modes: Modes, values: Complex) -> FloatPerChannel:
    """(channels,) real parts of (modes,) values."""
    total = np.bincount(modes.channel, weights=values.real, minlength=modes.channels)
    return np.asarray(total)
