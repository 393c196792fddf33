"""Optimal approximation in the Hankel norm (Adamjan, Arov and Krein).

No system of r states has a smaller Hankel norm of the error than ``sigma_{r+1}``, and one attains
it. Glover's construction embeds the balanced system into one whose error is all-pass with gain
``sigma_{r+1}``; the stable part of that, r states, is the answer. His formulas are for continuous
time, where the bilinear map ``s = (z - 1) / (z + 1)`` takes the system with its Gramians.

A constant changes no Hankel norm: ``D`` is chosen for the least H-infinity error. For some ``D`` it
is at most ``sum_{k>r} sigma_k``, half of balanced truncation's bound, and so it is for the best.

Sources: V. Adamjan, D. Arov and M. Krein (1971); K. Glover, "All optimal Hankel-norm approximations
of linear multivariable systems and their L-infinity error bounds" (1984), theorems 6.3 and 9.7.
"""

from __future__ import annotations

import numpy as np

from s4edge.arrays import Complex, Float, IntPerChannel
from s4edge.compression.states.base import UNKNOWN, Reduced, ReductionMethod, Use
from s4edge.systems.balancing import diagonalize
from s4edge.systems.hinf import frequency_response, hinf_distance
from s4edge.systems.modes import Modes, log1p
from s4edge.systems.realization import (
    Balanced,
    balanced_systems,
    with_first,
    without_first,
)

# Singular values that differ by less count as one.
_EQUAL = 1e-9
# States that change the next singular value by less are truncated first.
_TRUNCATED = 1e-12
# By which the gain of the all-pass error may vary; beyond that the channel is truncated instead.
_FLAT = 1e-2
# Where that is looked at, radians per sample.
_LOOKED_AT = np.array([0.003, 0.03, 0.2, 0.7, 1.6, 2.8])
# The H-infinity error is sampled here, and around poles in half-widths of their resonance.
_UNIFORM = np.linspace(0, np.pi, 257)
_AROUND = np.array([-8, -4, -2, -1, -0.5, -0.25, 0, 0.25, 0.5, 1, 2, 4, 8])
_ROUNDS = 60
# How often, around how many peaks and how much finer it is sampled again.
_EXCHANGES = 5
_PEAKS = 8
_FINER = 12


def hankel_norm_approximation(modes: Modes, orders: IntPerChannel, use: Use = UNKNOWN) -> Reduced:
    """Reduce every channel to its order. See `s4edge.compression.states.base.Method`.

    The Hankel singular values are those of the kernels from their second sample on. Where the next
    one is repeated the order may come out lower, which costs nothing. A channel that rounding does
    not allow to be embedded is truncated.
    """
    parts: list[Modes] = []
    hankel: list[Float] = [np.zeros(0)] * modes.channels
    bound = np.zeros(modes.channels)
    later = without_first(modes)
    for channel, system in balanced_systems(later):
        given = later.of_channels(np.array([channel]))
        log_pole, weight, bound[channel] = _approximate(given, system, int(orders[channel]))
        log_pole, weight, change = with_first(log_pole, weight)
        bound[channel] += change
        hankel[channel] = system.sigma
        parts.append(Modes.make(log_pole, weight, np.full(len(weight), channel), modes.channels))
    reduced = Modes.concatenate(parts) if parts else modes
    feedthrough, least = _best_constant(modes, reduced)
    # What the samples have missed of the error may exceed the bound, and so may the search for the
    # constant, which ends a little short of the best one.
    error = hinf_distance(modes, Modes.concatenate([reduced, Modes.constant(feedthrough)]))
    bound = np.maximum(bound + np.maximum(error - least, 0), error)
    return Reduced(reduced, hankel, bound, feedthrough)


def _approximate(given: Modes, system: Balanced, order: int) -> tuple[Complex, Complex, float]:
    """``log a`` and weights of ``K[1], K[2], ...``, and the error's bound for the best constant."""
    sigma, kept = system.sigma, len(system.input)
    if order < kept:
        found = _stable_part(given, system, order)
        if found is not None:
            log_pole, weight, ripple = found
            negligible = sigma <= _TRUNCATED * sigma[order]
            bound = sigma[order:].sum() + sigma[negligible].sum() + ripple
            return log_pole, weight, float(bound)
    cut = slice(0, order)
    log_pole, weight = diagonalize(system.delta[cut, cut], system.input[cut], system.output[cut])
    return log_pole, weight, float(2 * sigma[order:].sum())


def _stable_part(
    given: Modes, system: Balanced, order: int
) -> tuple[Complex, Complex, float] | None:
    """Of Glover's all-pass embedding; None where rounding does not allow it.

    Returns:
        ``log a``, weights, and how far the embedding's gain is from flat.
    """
    level = system.sigma[order]
    n = int(np.count_nonzero(system.sigma[: len(system.input)] > _TRUNCATED * level))
    sigma = system.sigma[:n]
    inverse = np.linalg.inv(2 * np.eye(n) + system.delta[:n, :n])
    A = system.delta[:n, :n] @ inverse
    B = np.sqrt(2) * inverse @ system.input[:n]
    C = np.sqrt(2) * system.output[:n] @ inverse

    equal = np.abs(sigma - level) <= _EQUAL * level
    last = np.flatnonzero(equal)[np.argmax(np.abs(B[equal]))]
    sign = -np.sign(B[last] * C[last])
    A1, B1, C1, S = A[~equal][:, ~equal], B[~equal], C[~equal], sigma[~equal]
    gap = (S - level) * (S + level)
    moved = level**2 * A1.T + S[:, None] * A1 * S - level * sign * np.outer(C1, B1)
    input, output = (S * B1 + level * sign * C1) / gap, C1 * S + level * sign * B1
    pole, vectors = np.linalg.eig(moved / gap[:, None])
    residue = (output @ vectors) * np.linalg.solve(vectors, input.astype(vectors.dtype))

    stable = pole.real < 0
    # Against the given modes, at their resonances too: there it shows whether slow poles were met.
    omega = np.concatenate([_LOOKED_AT, np.clip(np.abs(given.log_pole.imag), 0, 3.14159)])
    s = 1j * np.tan(omega / 2)[:, None]
    response = frequency_response(given, omega[None])[0] * np.exp(-1j * omega)
    response += system.output[:n] @ inverse @ system.input[:n]  # what the map moves into D
    error = response - (residue / (s - pole)).sum(axis=1) + level * sign
    ripple = float(np.abs(np.abs(error) - level).max())
    larger = np.count_nonzero(~equal & (sigma > level))
    if not ripple <= _FLAT * level or np.count_nonzero(stable) != larger:
        return None
    chosen = stable & (pole.imag >= 0)
    p, c = pole[chosen].astype(np.complex128), residue[chosen]
    # c / (s - p) as a constant and v / (z - a).
    weight = np.where(p.imag > 0, 2, 1) * 2 * c / (1 - p) ** 2
    return log1p(2 * p / (1 - p)), weight, ripple


def _best_constant(given: Modes, reduced: Modes) -> tuple[Float, Float]:
    """(channels,) the real constant that leaves the least largest gain, and that gain, sampled."""
    uniform = np.broadcast_to(_UNIFORM, (given.channels, len(_UNIFORM)))
    omega = np.sort(np.concatenate([uniform, _near(given), _near(reduced)], axis=1), axis=1)
    error = _difference(given, reduced, omega)
    D, gain = _centre(error)
    for _ in range(_EXCHANGES):
        finer = _around_peaks(omega, np.abs(error - D[:, None]))
        omega = np.concatenate([omega, finer], axis=1)
        error = np.concatenate([error, _difference(given, reduced, finer)], axis=1)
        order = np.argsort(omega, axis=1)
        omega, error = (np.take_along_axis(each, order, axis=1) for each in (omega, error))
        D, gain = _centre(error)
    return D, gain


def _difference(first: Modes, second: Modes, omega: Float) -> Complex:
    return frequency_response(first, omega) - frequency_response(second, omega)


def _around_peaks(omega: Float, gain: Float) -> Float:
    """(channels, points) frequencies between the neighbours of the highest local maxima."""
    edge = np.full((len(gain), 1), -1.0)
    left, right = np.hstack([edge, gain[:, :-1]]), np.hstack([gain[:, 1:], edge])
    peaks = np.where((gain >= left) & (gain >= right), gain, -1.0)
    top = np.argsort(-peaks, axis=1)[:, :_PEAKS]
    low = np.take_along_axis(omega, np.maximum(top - 1, 0), axis=1)
    high = np.take_along_axis(omega, np.minimum(top + 1, omega.shape[1] - 1), axis=1)
    share = (np.arange(_FINER) + 0.5) / _FINER
    return (low[..., None] + (high - low)[..., None] * share).reshape(len(gain), -1)


def _centre(error: Complex) -> tuple[Float, Float]:
    """(channels,) the real number whose largest distance to ``error`` is least, and that."""

    def largest(D: Float) -> Float:
        return ((error.real - D) ** 2 + error.imag**2).max(axis=1, keepdims=True)

    # Convex in D.
    low, high = error.real.min(axis=1, keepdims=True), error.real.max(axis=1, keepdims=True)
    for _ in range(_ROUNDS):
        third = (high - low) / 3
        falling = largest(low + third) > largest(high - third)
        low, high = np.where(falling, low + third, low), np.where(falling, high, high - third)
    D = (low + high) / 2
    return D[:, 0], np.sqrt(largest(D))[:, 0]


def _near(modes: Modes) -> Float:
    log_pole, _ = modes.padded()
    near = np.abs(log_pole.imag)[..., None] - np.expm1(log_pole.real)[..., None] * _AROUND
    return np.clip(near.reshape(modes.channels, -1), 0, np.pi)


METHOD = ReductionMethod(
    name="hankel",
    reduce=hankel_norm_approximation,
    summary="least Hankel norm of the error; changes D",
    told="optimal Hankel norm approximation of each channel",
    moves_feedthrough=True,
    cuts_by_hankel=True,
)
