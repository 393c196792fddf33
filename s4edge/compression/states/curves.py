"""The error of each channel at each order, by which a total of states is allocated."""

from __future__ import annotations

import numpy as np

from s4edge.arrays import Float, Int
from s4edge.compression.states.allocation import Curves
from s4edge.compression.states.candidates import Candidate, Candidates
from s4edge.compression.states.kernel_error import KernelError
from s4edge.compression.states.layer_error import LayerError
from s4edge.compression.states.refine import MovablePoles, solve_weights
from s4edge.compression.states.unit import Unit
from s4edge.systems.modes import Modes
from s4edge.systems.parallel import batches_of, map_batches

# Orders at which a channel's error is known, beside none and all of its states.
_ORDERS = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256)


def error_curves(candidates: Candidates, error: LayerError, refined: bool) -> Curves:
    """Of all channels of a unit.

    Args:
        candidates: of the unit.
        error: of its channels.
        refined: whether results will be refined: weights and ``D`` are then the best ones for the
            candidate's poles.
    """
    unit = candidates.unit
    states = unit.stable.real_states
    starts = {order: candidates.at(order) for order in _ORDERS if order < states.max()}

    def curve(channels: Int) -> Float:
        (h,) = channels
        out = np.full(len(_ORDERS) + 2, np.nan)
        if states[h] == 0:
            out[0] = 0
            return out
        measured = error.channel(int(h)).mixed
        out[-1] = 0
        out[0] = _error_of(unit, int(h), None, measured, refined)
        for column, order in enumerate(_ORDERS, 1):
            if order < states[h]:
                out[column] = _error_of(unit, int(h), starts[order], measured, refined)
        return out

    errors = np.stack(map_batches(curve, batches_of(np.arange(len(states)), 1)))
    known = np.broadcast_to([0, *_ORDERS], (len(states), len(_ORDERS) + 1))
    return Curves(np.column_stack([known, states]), errors)


def _error_of(
    unit: Unit, h: int, start: Candidate | None, error: KernelError, refined: bool
) -> float:
    """Of one channel of a candidate; None for no states."""
    modes = Modes.make([], [], [], 1) if start is None else start.modes.of_channel(h)
    if refined:
        free = unit.systems.config.feedthrough
        return solve_weights(error, MovablePoles.of(modes, unit.stable.of_channel(h)), free).error
    kernel = modes.at(error.lag)[0]
    D = None if start is None else start.feedthrough
    kernel[0] += float(unit.systems.D[h].detach()) if D is None else D[h]
    return max(error.of(kernel), 0.0)
