"""Where the error of a channel is known, by which states are shared out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_compress_model import model_of

from s4edge.compression.states.calibration import Calibration, Passage
from s4edge.compression.states.candidates import Candidates
from s4edge.compression.states.curves import error_curves
from s4edge.compression.states.methods.registry import METHODS
from s4edge.compression.states.observed import observe
from s4edge.compression.states.unit import units_of
from s4edge.progress import silent


@pytest.mark.parametrize("refined", [False, True])
def test_errors_are_known_at_orders_close_to_each_other(refined: bool) -> None:
    model = model_of(([20, 3, 0], [1, 0, 0], [0, 0, 0]))
    x = torch.randn(8, 25, 1, generator=torch.Generator().manual_seed(0))
    observed = observe(model, Calibration(x, None, "x", len(x)), silent)
    (unit,) = units_of(model)
    with torch.no_grad():
        u = Passage(observed.model, observed.sample).inputs()
        candidates = Candidates(METHODS["balanced"], unit, observed.use(unit, u, None))
        error = observed.layer_error(unit, u, u)
        curves = error_curves(candidates, error, refined)
    for h, states in enumerate((41, 6, 0)):
        known = np.isfinite(curves.error[h])
        order, found = curves.order[h][known], curves.error[h][known]
        assert (order[0], order[-1]) == (0, states)
        assert found[-1] == 0
        # One by one where each state counts much; nowhere more than twice as many at once.
        assert set(range(min(states, 4) + 1)) <= set(order.tolist())
        assert (order[2:] <= 2 * order[1:-1]).all()
        if states == 0:
            continue
        # Without a state, the energy of all that the channel's output is.
        nothing = error.channel(h).mixed
        kernel = np.zeros(len(nothing.lag))
        assert refined or found[0] == pytest.approx(
            nothing.of(kernel + (nothing.lag == 0) * float(unit.systems.D[h].detach()))
        )
