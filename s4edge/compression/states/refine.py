"""Descent of one channel's kernel towards the least `KernelError`.

Levenberg and Marquardt's method over poles, weights and feed-through; after each step of the poles
the weights are solved for ("variable projection", G. Golub and V. Pereyra, 1973). A pole is
``exp(-exp(decay) + i angle)``: no step leaves the unit disk. None becomes slower than the slowest
of the original either: data tell nothing of what a kernel does behind their end, and a stream may
be longer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from s4edge.arrays import Complex, Float, Int
from s4edge.compression.states.kernel_error import KernelError
from s4edge.systems.modes import Modes

# Of the decay rate's logarithm: a memory of hardly a sample.
_FASTEST = 2.0
# On the functions' unit Gram matrix: keeps weights from cancelling by more than float32 can hold.
_RIDGE = 1e-8
# The most that one step changes a decay's logarithm and an angle by.
_FURTHEST, _WIDEST = 1.0, 0.3
# A step that gains less, relative to the error, is the last.
_ENOUGH = 1e-5
_MOST_DAMPING, _LEAST_DAMPING = 1e6, 1e-9


@dataclass(frozen=True)
class MovablePoles:
    """The poles of one channel.

    Attributes:
        decay: (p + q,) ``log(-log|a|)`` of pairs, then of real poles.
        angle: (p,) of the pairs.
        sign: (q,) of the real poles, 1 or -1.
        slowest: the least decay that is allowed.
    """

    decay: Float
    angle: Float
    sign: Float
    slowest: float

    @staticmethod
    def of(modes: Modes, original: Modes) -> MovablePoles:
        """Of one channel's stable modes, as slow as those of the original at most."""
        real = modes.is_real
        slowest = float(np.log(-original.log_pole.real).min())
        decay = np.clip(np.log(-modes.log_pole.real), slowest, max(slowest, _FASTEST))
        return MovablePoles(
            np.concatenate([decay[~real], decay[real]]),
            modes.log_pole.imag[~real],
            np.where(modes.log_pole.imag[real] == 0, 1.0, -1.0),
            slowest,
        )

    @property
    def log_pole(self) -> Complex:
        """(p + q,) ``log a``."""
        angles = np.concatenate([self.angle, np.where(self.sign > 0, 0.0, np.pi)])
        return -np.exp(self.decay) + 1j * angles

    def moved(self, step: Float) -> MovablePoles:
        """After a step of the decays, then the angles; a step that is too far is cut."""
        n = len(self.decay)
        decay = self.decay + np.clip(step[:n], -_FURTHEST, _FURTHEST)
        angle = self.angle + np.clip(step[n:], -_WIDEST, _WIDEST)
        decay = np.clip(decay, self.slowest, max(self.slowest, _FASTEST))
        # A pole that crosses the real axis is its own conjugate.
        angle = np.copysign(angle, self.angle)
        return MovablePoles(decay, angle, self.sign, self.slowest)


@dataclass(frozen=True)
class Fit:
    """A kernel that is close to what was aimed at.

    Attributes:
        poles: of it.
        weight: (p + q,) of its modes, real ones last.
        feedthrough: what it adds to ``K[0]`` beside its modes.
        error: the squared error that is left.
    """

    poles: MovablePoles
    weight: Complex
    feedthrough: float
    error: float


def solve_weights(error: KernelError, poles: MovablePoles, feedthrough: bool) -> Fit:
    """The best weights for given poles."""
    return _Normal(error, poles, feedthrough, slopes=False).fit()


def refine(error: KernelError, start: MovablePoles, feedthrough: bool, steps: int) -> Fit:
    """Move the poles downhill.

    Args:
        error: to be made small.
        start: of the poles; the result is at least as good.
        feedthrough: whether it may be moved, too.
        steps: at most.
    """
    poles, here = start, _Normal(error, start, feedthrough)
    damping = 1e-3
    for _ in range(steps if len(start.decay) else 0):
        there = _Normal(error, poles.moved(here.step(damping)), feedthrough)
        if there.error < here.error:
            gain = (here.error - there.error) / here.error
            poles, here = there.poles, there
            damping = max(damping / 4, _LEAST_DAMPING)
            if gain < _ENOUGH:
                break
        else:
            damping *= 4
            if damping > _MOST_DAMPING:
                break
    return here.fit()


class _Normal:
    """The normal equations at given poles, with the weights solved for.

    A kernel is linear in the functions Re a^k and -Im a^k of pairs, a^k of real poles, and the
    unit impulse of the feed-through; its slopes by decay and angle are linear in k times the
    functions of the modes.
    """

    def __init__(
        self, error: KernelError, poles: MovablePoles, feedthrough: bool, slopes: bool = True
    ) -> None:
        self.poles, self.feedthrough = poles, feedthrough
        modal = _functions(poles, error.lags, error.later)
        count, points = modal.shape
        n = self.count = count + int(feedthrough)
        functions = np.zeros((n + slopes * count, points))
        functions[:count] = modal
        functions[count:n, :1] = 1
        if slopes:
            np.multiply(error.lag, modal, out=functions[n:])
        self.gram, self.product = error.normal(functions)
        scale = 1 / np.sqrt(np.maximum(np.diagonal(self.gram)[:n], 1e-300))
        unit = self.gram[:n, :n] * scale[:, None] * scale + _RIDGE * np.eye(n)
        self.weight = scale * np.linalg.solve(unit, scale * self.product[:n])
        gained = 2 * self.product[:n] - self.gram[:n, :n] @ self.weight
        self.error = max(error.zero - float(self.weight @ gained), 0.0)

    def step(self, damping: float) -> Float:
        """Of decays and angles; the weights' own part of the step is left to be solved for."""
        n, p, q = self.count, len(self.poles.angle), len(self.poles.sign)
        rate, w = np.exp(self.poles.decay), self.weight
        re, im, real = w[:p], w[p : 2 * p], w[2 * p : 2 * p + q]
        pair, last = np.arange(p), np.arange(q)
        # Columns: weights, decays, angles; rows: the functions. With w = re + i im a pair is
        # Re(w a^k), its slopes Re(-rate k w a^k) and Re(i k w a^k).
        slope = np.zeros((len(self.gram), n + 2 * p + q))
        slope[:n, :n] = np.eye(n)
        slope[n + pair, n + pair] = -rate[:p] * re
        slope[n + p + pair, n + pair] = -rate[:p] * im
        slope[n + 2 * p + last, n + p + last] = -rate[p:] * real
        slope[n + pair, n + p + q + pair] = -im
        slope[n + p + pair, n + p + q + pair] = re
        curvature = slope.T @ self.gram @ slope
        downhill = slope.T @ (self.product - self.gram[:, :n] @ w)
        diagonal = np.diagonal(curvature)
        diagonal = np.maximum(diagonal, 1e-14 * diagonal.max(initial=1e-300))
        scale = 1 / np.sqrt(diagonal)
        scaled = curvature * scale[:, None] * scale + damping * np.eye(len(scale))
        return (scale * np.linalg.solve(scaled, scale * downhill))[n:]

    def fit(self) -> Fit:
        p, q, w = len(self.poles.angle), len(self.poles.sign), self.weight
        weight = np.concatenate([w[:p] + 1j * w[p : 2 * p], w[2 * p : 2 * p + q]])
        return Fit(self.poles, weight, float(w[-1]) if self.feedthrough else 0.0, self.error)


def _functions(poles: MovablePoles, lags: int, later: Int) -> Float:
    """(2 p + q, lags + points) Re a^k and -Im a^k of the pairs, a^k of the real poles.

    Powers are products of two short tables: exponentials would take as long as all else.
    """
    p, q = len(poles.angle), len(poles.sign)
    step = max(1, math.isqrt(lags))
    log_pole = poles.log_pole[:, None]
    fine = np.exp(log_pole * np.arange(step))
    coarse = np.exp(log_pole * np.arange(0, lags, step))
    powers = coarse[:, :, None] * fine[:, None, :]
    powers = powers.reshape(p + q, coarse.shape[1] * step)
    out = np.empty((2 * p + q, lags + len(later)))
    for part, columns in (
        (powers[:, :lags], slice(0, lags)),
        (np.exp(log_pole * later), slice(lags, None)),
    ):
        out[:p, columns] = part[:p].real
        np.negative(part[:p].imag, out=out[p : 2 * p, columns])
        out[2 * p :, columns] = part[p:].real
    return out
