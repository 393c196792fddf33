"""Locally optimal approximation in the H2 norm: the energy of the kernel's error.

With the best weights for given poles ``alpha``, the error is ``G - G_r = B F``, where ``B`` is the
Blaschke product of the poles, of modulus 1 on the unit circle, and ``F`` has the poles ``a_n`` of
the given system with the weights

    f_n = w_n prod_i (a_n - alpha_i) / (1 - alpha_i a_n).

The energy of ``F`` is the error's, so that the poles are the only unknowns and nothing is
subtracted. It is minimized by Newton's method from the poles of balanced truncation, downhill only:
the result is stable and never worse than those. There are many local minima; a second start takes
the given system's own poles, two by two, those that lower the energy most, and the better of both
results is kept. At the end ``G_r`` interpolates ``G`` and its derivative at the mirrored poles.
IRKA looks for the same points, but may fail to converge.

Poles come in twos, by the mean ``m`` and ``D`` with ``alpha = m +- root(D)``, so that two real
poles can become a conjugate pair and back.

Sources: L. Meier and D. Luenberger, "Approximation of linear constant systems" (1967), for the
interpolation conditions; L. Baratchart, M. Cardelli and M. Olivi, "Identification and rational L2
approximation: a gradient algorithm" (1991), for the weights eliminated; S. Gugercin, A. Antoulas
and C. Beattie, "H2 model reduction for large-scale linear dynamical systems" (2008), and
A. Bunse-Gerstner et al., "h2-norm optimal model reduction for large scale discrete dynamical MIMO
systems" (2010), for IRKA.
"""

from __future__ import annotations

import numpy as np

from s4edge.arrays import Complex, Float, Int, IntPerChannel
from s4edge.compression.states.base import UNKNOWN, Reduced, ReductionMethod, Use
from s4edge.compression.states.methods.balanced import balanced_truncation
from s4edge.systems.generators import same_shape
from s4edge.systems.h2_energy import (
    NUDGE,
    ReducedPoles,
    System,
    blaschke,
    derivatives,
    differences,
    energy_of,
)
from s4edge.systems.modes import Modes, log1p

_STEPS = 100
# Between choosing one pole and the next.
_FEW_STEPS = 10
# Pairing the real poles anew shows whether neighbours would rather be a conjugate pair.
_ROUNDS = 3
# The energy counts as minimal once Newton's step promises no more than this share of it.
_CONVERGED = 1e-10
# Energy of the error, relative to the system's, that is as good as none.
_EXACT = 1e-22
# Two poles nearer than this, relative to their distance from the circle, would have weights that
# cancel to all digits.
_APART = 1e-3
# Faster poles are indistinguishable from 0, which has no logarithm.
_FASTEST = 1e-12


def h2_optimal(modes: Modes, orders: IntPerChannel, use: Use = UNKNOWN) -> Reduced:
    """Reduce every channel to its order. See `s4edge.compression.states.base.Method`."""
    start = balanced_truncation(modes, orders)
    counts = start.modes.real_states
    parts = [start.modes.select(np.zeros(len(start.modes.weight), dtype=bool))]
    for channels in same_shape(modes):
        for count in np.unique(counts[channels]):
            some = channels[counts[channels] == count]
            system = System.of(modes.of_channels(some))
            poles = ReducedPoles.of(start.modes.of_channels(some))
            log_pole, weight, channel = _weighted(system, _optimal(system, poles))
            parts.append(Modes.make(log_pole, weight, some[channel], modes.channels))
    bound = np.full(modes.channels, np.nan)
    return Reduced(Modes.concatenate(parts), start.hankel, bound)


def _optimal(system: System, start: ReducedPoles) -> ReducedPoles:
    """The better of both local minima."""
    poles = _refined(system, start)
    energy = energy_of(system, poles)
    inexact = np.flatnonzero(energy > _rounding(system))
    if not len(inexact):
        return poles
    part = system.some(inexact)
    other = _refined(part, _chosen(part, poles.pulls().shape[1]))
    better = np.flatnonzero(energy_of(part, other) < energy[inexact])
    return poles.replaced(inexact[better], other.some(better))


def _chosen(system: System, count: int) -> ReducedPoles:
    """``count`` poles of each system, chosen one pair after another where they lower the energy."""
    systems, modes = system.pull.shape
    everyone = np.arange(systems)
    poles = ReducedPoles(np.zeros((systems, 0)), np.zeros((systems, 0)), np.zeros((systems, 0)))
    for _ in range(count // 2):
        m, D = system.pull.real, -(system.pull.imag**2)
        # A real pole is taken twice, for the descent to tear apart.
        best = _best(
            system, poles, [ReducedPoles(m[:, [i]], D[:, [i]], poles.x) for i in range(modes)]
        )
        poles = poles.with_more(m[everyone, best], D[everyone, best])
        poles = _descend(system, poles, _FEW_STEPS)
    if count % 2:
        radius = np.abs(1 + system.pull)
        x = np.concatenate([radius - 1, -radius - 1], axis=1)
        best = _best(
            system,
            poles,
            [ReducedPoles(m0 := poles.m[:, :0], m0, x[:, [i]]) for i in range(2 * modes)],
        )
        poles = ReducedPoles(poles.m, poles.D, x[everyone, best][:, None])
    return poles


def _best(system: System, poles: ReducedPoles, more: list[ReducedPoles]) -> Int:
    """(systems,) index of the candidates that lower the energy most when added to ``poles``."""
    f = system.weight * blaschke(system, poles)
    left = np.stack([f * blaschke(system, candidate) for candidate in more], axis=2)
    best: Int = (system.signal(left) ** 2).sum(axis=1).argmin(axis=1)
    return best


def _refined(system: System, poles: ReducedPoles) -> ReducedPoles:
    for _ in range(_ROUNDS):
        poles = ReducedPoles.paired(_descend(system, poles, _STEPS).pulls())
    return poles


def _rounding(system: System) -> Float:
    """(systems,) energy of an error that counts as none."""
    energy: Float = _EXACT * (system.signal(system.weight) ** 2).sum(axis=1)
    return energy


def _descend(system: System, poles: ReducedPoles, steps: int) -> ReducedPoles:
    """Newton's method for all systems at once, each with its own damping."""
    floor = _rounding(system)
    damping = np.full(len(floor), 1e-2)
    active = np.arange(len(floor) if poles.pulls().shape[1] else 0)
    for _ in range(steps if len(active) else 0):
        some, at = system.some(active), poles.some(active)
        gradient, hessian, gauss, energy = derivatives(some, at)
        step, promised = _newton_step(gradient, hessian, gauss, damping[active])
        trial = at.plus(step)
        # A pole may come nearer to the circle by a factor of ten at most.
        legal = trial.decay() > 0.1 * at.decay()
        new = np.full(len(active), np.inf)
        kept = np.flatnonzero(legal)
        new[kept] = energy_of(some.some(kept), trial.some(kept))
        better = np.flatnonzero(new < energy)
        poles = poles.replaced(active[better], trial.some(better))
        damping[active] *= np.where(new < energy, 0.1, 8.0)
        done = (energy <= floor[active]) | (promised <= _CONVERGED * energy)
        active = active[~(done | (damping[active] > 1e12))]
        if not len(active):
            break
    return poles


def _newton_step(
    gradient: Float, hessian: Float, gauss: Float, damping: Float
) -> tuple[Float, Float]:
    """Damped steps, downhill also where the Hessian is indefinite, and what they promise.

    Unknowns are scaled by how much each alone changes the error's signal.
    """
    size = np.sqrt(np.einsum("cii->ci", gauss))
    scale = 1 / np.where(size > 0, size, 1)
    values, vectors = np.linalg.eigh(hessian * scale[:, :, None] * scale[:, None, :])
    along = np.einsum("cij,ci->cj", vectors, gradient * scale)
    curved = np.maximum(np.abs(values), 1e-14 * np.abs(values).max(axis=1, keepdims=True))
    curved = np.maximum(curved, 1e-300)
    step = -along / (curved + damping[:, None])
    promised = (along**2 / curved).sum(axis=1)
    return np.einsum("cij,cj->ci", vectors, step) * scale, promised


def _weighted(system: System, poles: ReducedPoles) -> tuple[Complex, Complex, Int]:
    """``log alpha`` and the best weights, one mode of each pair, and which system each is of.

    The weights are the residues of ``-B F``.
    """
    width = (_APART * poles.decay()[:, None]) ** 2
    D = np.where(np.abs(poles.D) < width, np.where(poles.D < 0, -width, width), poles.D)
    poles = ReducedPoles(poles.m, D, poles.x)
    pull = poles.pulls()
    apart, _ = differences(system, poles)
    half = (np.arange(system.weight.shape[1]) < system.pairs) + 1
    f = (system.weight / half) * blaschke(system, poles)
    upper = -(f[:, :, None] / apart)
    # What pairs contribute by their other halves.
    other = pull[:, None, :] - system.pull[:, : system.pairs, None].conj()
    other = np.where(other == 0, -NUDGE, other)
    F = upper.sum(axis=1) + (f[:, : system.pairs, None].conj() / other).sum(axis=1)
    one, two = pull[:, :, None], pull[:, None, :]
    difference = one - two
    itself = np.eye(pull.shape[1], dtype=bool)
    difference[:, itself] = 1
    product = (-(one + two + one * two) / np.where(difference == 0, NUDGE, difference)).prod(axis=2)
    weight = -product * F
    log_pole = log1p(pull)
    log_pole.real = np.maximum(log_pole.real, np.log(_FASTEST))
    kept = pull.imag >= 0
    weight = np.where(pull.imag > 0, 2 * weight, weight)
    channel = np.broadcast_to(np.arange(len(pull))[:, None], pull.shape)
    return log_pole[kept], weight[kept], channel[kept]


METHOD = ReductionMethod(
    name="h2",
    reduce=h2_optimal,
    summary="least energy of the kernel's error (locally)",
    told="locally H2-optimal reduction of each channel",
)
