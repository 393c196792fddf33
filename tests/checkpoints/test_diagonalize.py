"""Dense systems against their definition in many digits."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from s4edge.checkpoints.diagonalize import DenseSystems


def kernel(A: list[list[float]], B: list[float], C: list[float], samples: int) -> list[float]:
    """``C (I - A^128)^-1 A^k B`` with 80 digits."""
    with mpmath.workdps(80):
        power = mpmath.matrix(A)
        row = mpmath.lu_solve((mpmath.eye(len(A)) - power**128).T, mpmath.matrix(C)).T
        column, out = mpmath.matrix(B), []
        for _ in range(samples):
            out.append(float((row * column)[0]))
            column = power * column
        return out


@pytest.mark.parametrize("largest", [0.99, 1.02, 1.3])
def test_a_growing_mode_takes_no_digits_of_the_others(largest: float) -> None:
    rng = np.random.default_rng(0)
    V = rng.standard_normal((4, 4))
    A = V @ np.diag([largest, 0.9, -0.5, 0.1]) @ np.linalg.inv(V)
    B, C = rng.standard_normal(4), rng.standard_normal(4)
    stored = DenseSystems((A - np.eye(4))[None], B[None], C[None, None])
    found = stored.untruncated(128).kernels(0, 64)[0]
    expected = kernel(A.tolist(), B.tolist(), C.tolist(), 64)
    # The powers of a growing mode make as much of the rounding of C as of itself.
    rounding = 10 * np.finfo(float).eps * max(largest, 1) ** 64
    np.testing.assert_allclose(found, expected, rtol=0, atol=rounding * np.abs(expected).max())
