"""Balanced truncation for kernels that are used at one length only.

The Gramians count the first ``T`` samples instead of all of them,
``P_ij = b_i conj(b_j) (1 - (a_i conj a_j)^T) / (1 - a_i conj a_j)``, so that no state is spent on
what happens later. Assembled, such a matrix would lose half of the digits. As
``P_2T = P_T + A^T P_T A^*T``, a factor of it is had by log2(T) QR decompositions, which never
subtract.

The result may be unstable. It is not where only what is reached is limited in time and what is
observed is not: Lyapunov's equation for Q still holds. Of both and plain balanced truncation each
channel takes what is stable and comes closest over the ``T`` samples. No bound is known.

Source: W. Gawronski and J.-N. Juang, "Model reduction in limited time and frequency intervals"
(1990).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from s4edge.arrays import Float, Int, IntPerChannel
from s4edge.compression.states.base import UNKNOWN, Reduced, ReductionMethod, Use
from s4edge.compression.states.methods.balanced import balanced_truncation
from s4edge.errors import S4EdgeError
from s4edge.systems.balancing import diagonalize
from s4edge.systems.generators import Generators, same_shape
from s4edge.systems.modes import Modes, expm1
from s4edge.systems.realization import balance

# Hankel singular values are accurate to this, relative to the largest.
_NEGLIGIBLE = 1e-14


def finite_horizon_truncation(modes: Modes, orders: IntPerChannel, use: Use = UNKNOWN) -> Reduced:
    """Reduce every channel to its order. See `s4edge.compression.states.base.Method`.

    The Hankel singular values are the ones over all time.

    Raises:
        S4EdgeError: no horizon is given.
    """
    if use.horizon is None or use.horizon < 1:
        raise S4EdgeError(
            "finite-horizon needs the number of samples that kernels are used for: give a horizon "
            "from 1 up"
        )
    best = balanced_truncation(modes, orders)
    chosen, distance = best.modes, horizon_distance(modes, best.modes, use.horizon)
    for candidate in _truncated(modes, orders, use.horizon) if len(modes.weight) else ():
        other = horizon_distance(modes, candidate, use.horizon)
        unstable = np.unique(candidate.channel[~candidate.is_stable])
        other[unstable] = np.inf
        closer = other < distance
        distance = np.where(closer, other, distance)
        chosen = Modes.concatenate(
            [candidate.select(closer[candidate.channel]), chosen.select(~closer[chosen.channel])]
        )
    return Reduced(chosen, best.hankel, np.full(modes.channels, np.nan))


def _truncated(modes: Modes, orders: Int, horizon: int) -> list[Modes]:
    """With what is observed limited in time, and without."""
    parts: tuple[list[Modes], list[Modes]] = ([], [])
    for channels in same_shape(modes):
        generators = Generators.of(modes.of_channels(channels))
        delta, input = generators.delta(), generators.input()
        limited, unlimited = horizon_factor(generators, horizon), generators.factor()
        for index, channel in enumerate(channels):
            cut = slice(0, int(orders[channel]))
            for into, observed in zip(parts, (limited, unlimited), strict=True):
                system = balance(
                    delta[index], input[index], generators.signs[index],
                    limited[index], observed[index], _NEGLIGIBLE,
                )  # fmt: skip
                log_pole, weight = diagonalize(
                    system.delta[cut, cut], system.input[cut], system.output[cut]
                )
                own = np.full(len(weight), channel)
                into.append(Modes.make(log_pole, weight, own, modes.channels))
    return [Modes.concatenate(each) for each in parts]


def horizon_factor(generators: Generators, horizon: int) -> Float:
    """(systems, n, n) ``R`` with ``R^T R = sum_{k < horizon} A^k B B^T A^kT``."""
    first = generators.input()[:, None, :]
    R, count = first, 1
    for bit in bin(horizon)[3:]:
        rows = [R, _moved(generators, R, count)]
        count *= 2
        if bit == "1":
            rows = [first, *(_moved(generators, block, 1) for block in rows)]
            count += 1
        stacked: Any = np.linalg.qr(np.concatenate(rows, axis=1), mode="r")
        R = stacked
    systems, rows_left, n = R.shape
    return np.concatenate([R, np.zeros((systems, n - rows_left, n))], axis=1)


def _moved(generators: Generators, rows: Float, steps: int) -> Float:
    """``rows A^T`` to the power ``steps``: what states become after as many steps."""
    pairs = generators.pair_log_pole.shape[1]
    turn = np.exp(steps * generators.pair_log_pole)[:, None, :]
    turned = (rows[..., :pairs] + 1j * rows[..., pairs : 2 * pairs]) * turn
    real = rows[..., 2 * pairs :] * np.exp(steps * generators.real_log_pole).real[:, None, :]
    return np.concatenate([turned.real, turned.imag, real], axis=2)


def horizon_distance(first: Modes, second: Modes, horizon: int) -> Float:
    """(channels,) root of the sum of squares of the difference of the first kernel samples."""
    difference = first.minus(second)
    log_pole, w = difference.padded()

    def total(left: np.ndarray, right: np.ndarray, weight: np.ndarray) -> np.ndarray:
        product = left[:, :, None] + right[:, None, :]
        sums = expm1(horizon * product) / expm1(product)
        return np.einsum("ci,cij,cj->c", w, sums, weight).real

    square = total(log_pole, log_pole.conj(), w.conj()) + total(log_pole, log_pole, w)
    out: Float = np.sqrt(np.maximum(square / 2, 0))
    return out


METHOD = ReductionMethod(
    name="finite-horizon",
    reduce=finite_horizon_truncation,
    summary="balanced over the samples for which kernels are used",
    told="truncation of each channel balanced over the samples for which kernels are used",
)
