"""Modes of diagonal systems, in double precision: what readers give and reductors take.

A channel's kernel is ``K[k] = Re sum_n w_n a_n**k`` (output ``y_t = sum_k K[k] u_{t-k} + D u_t``).
Poles are kept as their logarithms, so that a slow pole keeps the relative accuracy of its distance
from the unit circle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from s4edge.arrays import (
    BoolPerMode,
    ComplexPerChannelAndMode,
    ComplexPerMode,
    FloatPerChannel,
    FloatPerChannelAndSample,
    Int,
    IntPerChannel,
    IntPerMode,
)

# The logarithm of a pole that is 0 for every purpose.
_AT_ONCE = -700.0


def expm1(z: Any) -> Any:
    """``exp(z) - 1`` for complex ``z``, accurate for small ``|z|`` (numpy's own is not)."""
    z = np.asarray(z, dtype=np.complex128)
    x, y = z.real, z.imag
    half_sine = np.sin(y / 2)
    return np.expm1(x) * np.cos(y) - 2 * half_sine * half_sine + 1j * np.exp(x) * np.sin(y)


def log1p(z: Any) -> Any:
    """``log(1 + z)`` for complex ``z``, principal value, accurate for small ``|z|``."""
    z = np.asarray(z, dtype=np.complex128)
    x, y = z.real, z.imag
    # |1 + z|^2 - 1 = x (2 + x) + y^2; near |1 + z| = 0 the plain form is the accurate one.
    excess = x * (2 + x) + y * y
    with np.errstate(divide="ignore"):
        modulus = np.where(
            np.abs(excess) < 0.5, 0.5 * np.log1p(np.maximum(excess, -1)), np.log(np.abs(1 + z))
        )
    return modulus + 1j * np.arctan2(y, 1 + x)


@dataclass(frozen=True)
class Modes:
    """The modes of ``channels`` single-input single-output systems.

    A mode with a non-real pole stands for itself and its conjugate (a conjugate pair, two real
    states); a mode whose pole is exactly real costs one real state and has a real weight.

    Attributes:
        log_pole: (modes,) ``log a``, imaginary part in (-pi, pi].
        weight: (modes,) ``w``.
        channel: (modes,) the channel of each mode, ascending.
        channels: number of channels; a channel may have no mode.
    """

    log_pole: ComplexPerMode
    weight: ComplexPerMode
    channel: IntPerMode
    channels: int

    @staticmethod
    def make(log_pole: Any, weight: Any, channel: Any, channels: int) -> Modes:
        """Sort by channel, wrap angles, and drop the imaginary weight of exactly real poles."""
        log_pole = np.asarray(log_pole, dtype=np.complex128).reshape(-1)
        weight = np.asarray(weight, dtype=np.complex128).reshape(-1)
        channel = np.asarray(channel, dtype=np.int64).reshape(-1)
        order = np.argsort(channel, kind="stable")
        angle = np.remainder(log_pole.imag + np.pi, 2 * np.pi) - np.pi
        angle = np.where(angle == -np.pi, np.pi, angle)
        # Wrapping must not cost an angle that needed none its last bits.
        angle = np.where(np.abs(log_pole.imag) < np.pi, log_pole.imag, angle)
        real = (angle == 0) | (angle == np.pi)
        weight = np.where(real, weight.real, weight)
        return Modes(
            (log_pole.real + 1j * angle)[order], weight[order], channel[order], int(channels)
        )

    @staticmethod
    def from_rows(log_pole: Any, weight: Any) -> Modes:
        """Modes of equally many per channel, both arguments (channels, modes)."""
        log_pole = np.asarray(log_pole, dtype=np.complex128)
        channels, per_channel = log_pole.shape
        return Modes.make(log_pole, weight, np.repeat(np.arange(channels), per_channel), channels)

    @staticmethod
    def concatenate(parts: list[Modes]) -> Modes:
        """All modes of several sets over the same channels."""
        return Modes.make(
            np.concatenate([p.log_pole for p in parts]),
            np.concatenate([p.weight for p in parts]),
            np.concatenate([p.channel for p in parts]),
            parts[0].channels,
        )

    @staticmethod
    def constant(gain: FloatPerChannel) -> Modes:
        """Feed-throughs, (channels,), as modes that are over at once; none where it is 0."""
        channel = np.flatnonzero(gain)
        return Modes.make(np.full(len(channel), _AT_ONCE), gain[channel], channel, len(gain))

    def minus(self, other: Modes) -> Modes:
        """The systems of the difference, over the same channels."""
        return Modes.concatenate(
            [self, Modes(other.log_pole, -other.weight, other.channel, other.channels)]
        )

    @property
    def is_real(self) -> BoolPerMode:
        """(modes,) whether the pole is exactly real."""
        return (self.log_pole.imag == 0) | (self.log_pole.imag == np.pi)

    @property
    def is_stable(self) -> BoolPerMode:
        """(modes,) whether ``|a| < 1``."""
        return self.log_pole.real < 0

    @property
    def pole(self) -> ComplexPerMode:
        """(modes,) ``a``; exactly real where ``is_real``."""
        pole = np.exp(self.log_pole)
        return np.where(self.is_real, pole.real, pole)

    @property
    def real_states(self) -> IntPerChannel:
        """(channels,) real states of each channel's recurrence: 2 for a pair, 1 for a real pole."""
        cost = np.where(self.is_real, 1, 2)
        return np.bincount(self.channel, weights=cost, minlength=self.channels).astype(np.int64)

    def select(self, mask: BoolPerMode) -> Modes:
        """The modes where ``mask`` (modes,) is true, over the same channels."""
        return Modes(self.log_pole[mask], self.weight[mask], self.channel[mask], self.channels)

    def of_channels(self, channels: Int) -> Modes:
        """The modes of some channels (ascending indices), renumbered from 0."""
        keep = np.isin(self.channel, channels)
        part = self.select(keep)
        return Modes(
            part.log_pole, part.weight, np.searchsorted(channels, part.channel), len(channels)
        )

    def of_channel(self, channel: int) -> Modes:
        """The modes of one channel."""
        return self.of_channels(np.array([channel]))

    def kernel(self, length: int) -> FloatPerChannelAndSample:
        """(channels, length) the kernels, summed mode by mode (slow; for tests and plots)."""
        return self.at(np.arange(length))

    def at(self, steps: Int) -> FloatPerChannelAndSample:
        """(channels, points) the kernels at some samples, (points,)."""
        log_pole, weight = self.padded()
        out = np.zeros((self.channels, len(steps)))
        for column in range(log_pole.shape[1]):
            powers = np.exp(log_pole[:, column, None] * steps)
            out += (weight[:, column, None] * powers).real
        return out

    def padded(self) -> tuple[ComplexPerChannelAndMode, ComplexPerChannelAndMode]:
        """``log_pole`` and ``weight`` as (channels, most modes of any channel) arrays.

        Channels with fewer modes are filled with modes of weight 0 and pole ``exp(-1)``.
        """
        counts = np.bincount(self.channel, minlength=self.channels)
        width = int(counts.max(initial=0))
        slot = np.arange(len(self.channel)) - np.repeat(np.cumsum(counts) - counts, counts)
        log_pole = np.full((self.channels, width), -1.0, dtype=np.complex128)
        weight = np.zeros((self.channels, width), dtype=np.complex128)
        log_pole[self.channel, slot] = self.log_pole
        weight[self.channel, slot] = self.weight
        return log_pole, weight
