from __future__ import annotations

import mpmath
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from models_by_hand import random_modes

from s4edge.systems.modes import Modes, expm1, log1p

tiny_to_large = st.floats(-3, 0.5) | st.floats(-1e-9, 1e-9) | st.floats(-1e-4, 1e-4)


@given(tiny_to_large, tiny_to_large)
def test_expm1_is_relatively_accurate(x: float, y: float) -> None:
    with mpmath.workdps(60):
        exact = complex(mpmath.expm1(mpmath.mpc(x, y)))
    assert abs(complex(expm1(x + 1j * y)) - exact) <= 1e-15 * abs(exact)


@given(tiny_to_large, tiny_to_large)
def test_log1p_inverts_expm1(x: float, y: float) -> None:
    with mpmath.workdps(60):
        z = mpmath.mpc(x, y)
        exact = complex(mpmath.log1p(z)) if abs(1 + z) > 1e-6 else None
    if exact is not None:
        got = complex(log1p(x + 1j * y))
        # Each part on its own: the real part is the rate of decay. Near |1 + z| = 1 with z not
        # small the real part cancels, whatever one does with z in double precision.
        assert abs(got.imag - exact.imag) <= 1e-15 * max(abs(exact.imag), 1e-300)
        assert abs(got.real - exact.real) <= 2e-15 * (abs(x) + y * y + abs(exact.real))


def test_modes_are_sorted_wrapped_and_real_where_real() -> None:
    modes = Modes.make([-1 + 7j, -2, -3 + 1j * np.pi], [1 + 1j, 2 + 5j, 3 - 1j], [1, 0, 0], 3)
    assert modes.channel.tolist() == [0, 0, 1]
    assert modes.weight.tolist() == [2, 3, 1 + 1j]
    np.testing.assert_allclose(modes.log_pole[2], -1 + 1j * (7 - 2 * np.pi))
    assert modes.real_states.tolist() == [2, 2, 0]
    assert modes.pole[1].imag == 0


def test_kernel_is_the_naive_recurrence() -> None:
    modes = random_modes(np.random.default_rng(0), 5)
    kernel = modes.kernel(50)
    for channel in range(5):
        mine = modes.channel == channel
        x = np.zeros(mine.sum(), dtype=complex)
        for k in range(50):
            x = modes.pole[mine] * x + (k == 0)
            assert abs((modes.weight[mine] * x).real.sum() - kernel[channel, k]) < 1e-12
