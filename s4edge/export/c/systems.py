"""How the systems of a layer lie in a C file: 8 side by side, of nearly the same order.

Systems are sorted by their pairs and real poles, so that the 8 that stand together need little
filling up: what is computed is what orders there are, not the largest of them for all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from s4edge.arrays import Float, Int
from s4edge.export.lowering.program import DiagonalSystems
from s4edge.systems.modes import expm1

TOGETHER = 8


@dataclass(frozen=True)
class Arranged:
    """See ``systems`` in kernels.c.

    Attributes:
        weights: (numbers,) in the order in which they are read.
        counts: (2 eights,) pairs and real poles of each eight.
        order: (8 eights,) which system stands where; None where they stand in their own order.
        states: floats of state.
    """

    weights: Float
    counts: Int
    order: Int | None
    states: int

    @property
    def eights(self) -> int:
        """Groups of 8 systems."""
        return len(self.counts) // 2


def arrange(systems: DiagonalSystems) -> Arranged:
    """Sort the systems of a layer and put down their numbers."""
    modes = systems.modes
    real = modes.is_real
    pairs = np.bincount(modes.channel[~real], minlength=modes.channels)
    reals = np.bincount(modes.channel[real], minlength=modes.channels)
    own = np.arange(modes.channels)
    orders = [own, np.lexsort((own, reals, -pairs)), np.lexsort((own, -reals, -pairs)),
              np.lexsort((own, -pairs, -reals))]  # fmt: skip
    order = min(orders, key=lambda each: _filled(pairs[each], reals[each]).sum())
    change = expm1(modes.log_pole)
    change[real] = change[real].real
    parts: list[Float] = []
    counts: list[tuple[int, int]] = []
    for start in range(0, modes.channels, TOGETHER):
        eight = order[start : start + TOGETHER]
        most = int(pairs[eight].max()), int(reals[eight].max())
        counts.append(most)
        D = np.zeros(TOGETHER)
        D[: len(eight)] = systems.feedthrough.value[eight]
        # What fills up forgets at once and is not read.
        of_pairs = np.zeros((most[0], 4, TOGETHER))
        of_reals = np.zeros((most[1], 2, TOGETHER))
        of_pairs[:, 0] = of_reals[:, 0] = -1
        for lane, channel in enumerate(eight):
            (these,) = np.nonzero((modes.channel == channel) & ~real)
            a, w = change[these], modes.weight[these]
            of_pairs[: len(these), :, lane] = np.stack([a.real, a.imag, w.real, w.imag], axis=1)
            (these,) = np.nonzero((modes.channel == channel) & real)
            a, w = change[these], modes.weight[these]
            of_reals[: len(these), :, lane] = np.stack([a.real, w.real], axis=1)
        parts += [D, of_pairs.reshape(-1), of_reals.reshape(-1)]
    filled_order = np.arange(-(-modes.channels // TOGETHER) * TOGETHER)
    filled_order[: modes.channels] = order
    return Arranged(
        weights=np.concatenate(parts),
        counts=np.array(counts).reshape(-1),
        order=None if (order == own).all() else filled_order,
        states=int(_filled(pairs[order], reals[order]).sum()),
    )


def _filled(pairs: Int, reals: Int) -> Int:
    """(eights,) floats of state that each eight takes."""
    missing = -len(pairs) % TOGETHER
    most_pairs, most_reals = (
        np.pad(each, (0, missing)).reshape(-1, TOGETHER).max(axis=1) for each in (pairs, reals)
    )
    return np.asarray(TOGETHER * (2 * most_pairs + most_reals))
