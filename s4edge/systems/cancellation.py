"""How much of a kernel is left of weights that cancel: what single precision loses of it."""

from __future__ import annotations

import numpy as np

from s4edge.systems.modes import Modes

# Weights that cancel by more than this are kept in float64: 1e-7 times it is lost in float32.
LARGEST_CANCELLATION = 1e3


def cancellation(modes: Modes) -> float:
    """Largest sum of a channel's ``|w|`` relative to its kernel's largest value near the start."""
    log_pole, weight = modes.padded()
    peak = np.zeros(modes.channels)
    for k in range(64):
        with np.errstate(over="ignore", invalid="ignore"):
            peak = np.maximum(peak, np.abs((weight * np.exp(log_pole * k)).sum(axis=1).real))
    total = np.abs(weight).sum(axis=1)
    return float(np.max(total / np.maximum(peak, 1e-300), where=total > 0, initial=0))
