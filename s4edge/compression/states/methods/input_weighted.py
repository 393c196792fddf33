"""Balanced truncation weighed by what really reaches a channel.

The error that matters is the one on the signals of a layer, which are far from white. With
``rho`` the uncentred autocorrelation of a channel's input and
``F(a) = sum_{tau >= 1} rho(tau) a**tau`` the covariance of the states is still closed form,

    P_ij = b_i conj(b_j) (rho(0) + F(a_i) + conj(F(a_j))) / (1 - a_i conj(a_j)),

and takes the place of the controllability Gramian; the observability Gramian stays. One weight on
one side: the truncated system is stable (D. Enns, 1984). The bound of plain balanced truncation
does not hold.
"""

from __future__ import annotations

import numpy as np

from s4edge.arrays import Complex, Float, Int, IntPerChannel
from s4edge.compression.states.base import UNKNOWN, Reduced, Use
from s4edge.systems.balancing import NEGLIGIBLE, diagonalize
from s4edge.systems.generators import Generators, same_shape
from s4edge.systems.modes import Modes, expm1
from s4edge.systems.parallel import batches_of, map_batches
from s4edge.systems.realization import Balanced, balance

# Lags of the autocorrelation that are summed at once, and channels: they bound the memory.
_LAGS = 1024
_BLOCK = 16
# A result's poles stay that far inside the unit circle.
_SLOWEST = 1e-9


def input_weighted_truncation(modes: Modes, orders: IntPerChannel, use: Use = UNKNOWN) -> Reduced:
    """Reduce every channel to its order. See `s4edge.compression.states.base.Method`.

    ``hankel`` holds the square roots of the eigenvalues of ``P Q`` with the calibrated ``P``.

    Args:
        modes: stable systems.
        orders: (channels,) real states to keep.
        use: with its ``autocorrelation``; a channel whose input is zero keeps no state.

    Raises:
        ValueError: there is no autocorrelation.
    """
    return cut(input_weighted_systems(modes, use), orders)


def input_weighted_systems(modes: Modes, use: Use) -> list[Balanced]:
    """Every channel balanced, to be cut at any order. Arguments and errors as above."""
    if use.autocorrelation is None:
        raise ValueError("calibrated truncation needs the autocorrelation of the inputs")
    rho = use.autocorrelation
    out: list[Balanced | None] = [None] * modes.channels

    def balanced(channels: Int) -> None:
        systems = Generators.of(modes.of_channels(channels))
        delta, given, factor = systems.delta(), systems.input(), systems.factor()
        values, vectors = np.linalg.eigh(state_covariance(systems, rho[channels]))
        # What is negative is rounding.
        reached = (vectors * np.sqrt(np.maximum(values, 0))[:, None, :]).transpose(0, 2, 1)
        for i, channel in enumerate(channels):
            signs = systems.signs[i]
            out[channel] = balance(delta[i], given[i], signs, reached[i], factor[i], NEGLIGIBLE)

    for group in same_shape(modes):
        map_batches(balanced, batches_of(group, _BLOCK))
    return [each for each in out if each is not None]


def cut(systems: list[Balanced], orders: IntPerChannel) -> Reduced:
    """The first states of balanced systems, one for each channel, diagonalized."""
    channels = len(systems)

    def reduce(some: Int) -> list[tuple[Complex, Complex]]:
        out = []
        for channel in some:
            system = systems[channel]
            r = min(int(orders[channel]), len(system.input))
            pole, weight = diagonalize(system.delta[:r, :r], system.input[:r], system.output[:r])
            out.append((np.minimum(pole.real, -_SLOWEST) + 1j * pole.imag, weight))
        return out

    blocks = map_batches(reduce, batches_of(np.arange(channels), _BLOCK))
    parts = [Modes.make([], [], [], channels)]
    for channel, (pole, weight) in enumerate(each for block in blocks for each in block):
        parts.append(Modes.make(pole, weight, np.full(len(pole), channel), channels))
    sigma = [system.sigma for system in systems]
    return Reduced(Modes.concatenate(parts), sigma, np.full(channels, np.nan))


def state_covariance(systems: Generators, rho: Float) -> Float:
    """Of the states, in the coordinates of `s4edge.systems.gramians.real_factor`.

    Args:
        systems: channels of one shape.
        rho: (systems, lags).

    Returns:
        (systems, n, n) symmetric.
    """
    pair, p = systems.pair_log_pole, systems.pair_log_pole.shape[1]
    log_pole = np.concatenate([pair, pair.conj(), systems.real_log_pole], axis=1)
    b = systems.pair_input
    b = np.concatenate([b, b.conj(), systems.real_input], axis=1)
    forecast = np.zeros(log_pole.shape, np.complex128)
    for start in range(1, rho.shape[1], _LAGS):
        lag = np.arange(start, min(start + _LAGS, rho.shape[1]))
        powers = np.exp(log_pole[:, :, None] * lag)
        forecast += (powers @ rho[:, lag, None])[..., 0]
    P = rho[:, :1, None] + forecast[:, :, None] + forecast.conj()[:, None, :]
    P = P * b[:, :, None] * b.conj()[:, None, :]
    P /= -expm1(log_pole[:, :, None] + log_pole.conj()[:, None, :])
    root = np.sqrt(0.5)
    # To real coordinates, first the rows, then the columns.
    for _ in range(2):
        up, down = P[:, :p], P[:, p : 2 * p]
        P = np.concatenate([root * (up + down), -1j * root * (up - down), P[:, 2 * p :]], axis=1)
        P = P.conj().transpose(0, 2, 1)
    out: Float = (P.real + P.real.transpose(0, 2, 1)) / 2
    return out
