"""Singular perturbation (residualization) of the balanced system: the gain at frequency 0 is kept.

The states that truncation would set to 0 are taken to be at rest instead, ``x2' = x2``. In terms of
``A - I`` what is left is a Schur complement. It is balanced with the same Hankel singular values,
stable, and keeps truncation's bound. What it does to slow inputs it does well, at the cost of the
highest frequencies; it changes ``D``.

Sources: Y. Liu and B. Anderson, "Singular perturbation approximation of balanced systems" (1989),
with the bound ``2 sum_{k>r} sigma_k``; K. Fernando and H. Nicholson, "Singular perturbational model
reduction of balanced systems" (1982), in discrete time (1983).
"""

from __future__ import annotations

import numpy as np

from s4edge.arrays import Complex, Float, IntPerChannel
from s4edge.compression.states.base import UNKNOWN, Reduced, ReductionMethod, Use
from s4edge.systems.balancing import diagonalize
from s4edge.systems.modes import Modes
from s4edge.systems.realization import (
    Balanced,
    balanced_systems,
    gain_at_zero_frequency,
    with_first,
    without_first,
)

# States below this Hankel singular value, relative to the largest, are truncated: which way they
# go no longer shows, and their equations are not accurate enough to be solved.
_TRUNCATED = 1e-13


def singular_perturbation(modes: Modes, orders: IntPerChannel, use: Use = UNKNOWN) -> Reduced:
    """Reduce every channel to its order. See `s4edge.compression.states.base.Method`.

    The Hankel singular values are those of the kernels from their second sample on.
    """
    parts: list[Modes] = []
    hankel: list[Float] = [np.zeros(0)] * modes.channels
    bound = np.zeros(modes.channels)
    for channel, system in balanced_systems(without_first(modes)):
        order = int(orders[channel])
        log_pole, weight, change = with_first(*_residualized(system, order))
        hankel[channel] = system.sigma
        bound[channel] = 2 * system.sigma[order:].sum() + change
        parts.append(Modes.make(log_pole, weight, np.full(len(weight), channel), modes.channels))
    reduced = Modes.concatenate(parts) if parts else modes
    # D closes what is left of the gain, to the last digit.
    feedthrough = gain_at_zero_frequency(modes) - gain_at_zero_frequency(reduced)
    return Reduced(reduced, hankel, bound, feedthrough)


def _residualized(system: Balanced, order: int) -> tuple[Complex, Complex]:
    """``log a`` and weights of ``K[1], K[2], ...``."""
    known = int(np.count_nonzero(system.sigma > _TRUNCATED * system.sigma[:1].max(initial=0)))
    for rest in (slice(order, max(order, known)), slice(0, 0)):
        delta, B, C = system.delta[:order, :order], system.input[:order], system.output[:order]
        if len(system.delta[rest]):
            to_rest = np.column_stack([system.delta[rest, :order], system.input[rest]])
            solved = np.linalg.solve(system.delta[rest, rest], to_rest)
            C = C - system.output[rest] @ solved[:, :-1]
            change = system.delta[:order, rest] @ solved
            delta, B = delta - change[:, :-1], B - change[:, -1]
        log_pole, weight = diagonalize(delta, B, C)
        # Where the order cuts between equal singular values a pole may lie on the circle; not so
        # after truncation.
        if (log_pole.real < 0).all():
            break
    return log_pole, weight


METHOD = ReductionMethod(
    name="singular-perturbation",
    reduce=singular_perturbation,
    summary="balanced, and the gain at frequency 0 is kept; changes D",
    told="balanced singular perturbation of each channel, which keeps the gain at frequency 0",
    moves_feedthrough=True,
    cuts_by_hankel=True,
)
