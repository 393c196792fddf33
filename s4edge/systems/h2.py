"""H2 norms of systems: the energy of their kernels."""

from __future__ import annotations

import numpy as np

from s4edge.arrays import FloatPerChannel
from s4edge.systems.modes import Modes, expm1


def h2_distance(first: Modes, second: Modes) -> FloatPerChannel:
    """(channels,) root of the sum of squares of the difference of two sets of stable kernels."""
    difference = first.minus(second)
    log_pole, w = difference.padded()
    left, right = log_pole[:, :, None], log_pole[:, None, :]
    # Re(w a^k) Re(v b^k) summed over k.
    square = np.einsum("ci,cij,cj->c", w, -1 / expm1(left + right.conj()), w.conj())
    square += np.einsum("ci,cij,cj->c", w, -1 / expm1(left + right), w)
    out: FloatPerChannel = np.sqrt(np.maximum(square.real / 2, 0))
    return out
