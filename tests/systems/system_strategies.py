"""Hypothesis strategies for systems."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from random_systems import make

from s4edge.systems.modes import Modes

_ANGLES = st.one_of(st.floats(0.01, 3.13), st.sampled_from([0.0, np.pi]), st.floats(-3.13, -0.01))


@st.composite
def systems(
    draw: st.DrawFn,
    most: int = 10,
    slowest: float = 1e-4,
    orders: float = 6,
    least: int = 1,
) -> Modes:
    """One channel; poles of all kinds, some repeated, weights over several orders, some 0."""
    log_pole, weight = [], []
    for _ in range(draw(st.integers(least, most))):
        if log_pole and draw(st.integers(0, 7)) == 0:
            log_pole.append(draw(st.sampled_from(log_pole)))
        else:
            decay = np.exp(draw(st.floats(np.log(slowest), 1)))
            log_pole.append(complex(-decay, draw(_ANGLES)))
        size = 10 ** draw(st.floats(-orders, 0)) * (draw(st.integers(0, 15)) > 0)
        weight.append(size * np.exp(1j * draw(st.floats(-3.1, 3.1))))
    return make(log_pole, weight)
