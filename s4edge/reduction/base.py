"""What every method of reduction takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s4edge.model.modes import Modes

Float = NDArray[np.float64]
Int = NDArray[np.int64]


@dataclass(frozen=True)
class Reduced:
    """Reduced systems and what theory says of them.

    Attributes:
        modes: the reduced systems; a channel may get fewer states than it was allowed where its
            Hankel singular values vanish.
        hankel: per channel, its Hankel singular values, descending.
        error_bound: (channels,) upper bound on the H-infinity norm of the error, nan where the
            method has none.
    """

    modes: Modes
    hankel: list[Float]
    error_bound: Float


Method = Callable[[Modes, Int], Reduced]
"""A method of reduction: stable systems and the order of each, (channels,), to reduced systems.

An order is the number of real states that a channel may keep; it is at most what the channel has.
"""
