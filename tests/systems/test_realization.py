"""A kernel's first sample taken off and put back."""

from __future__ import annotations

import numpy as np
import pytest

from s4edge.systems.modes import Modes
from s4edge.systems.realization import FASTEST, with_first, without_first


def test_the_first_sample_goes_and_comes_back() -> None:
    modes = Modes.make([-0.1 + 0.5j, -1.0], [1 + 2j, 0.5], [0, 0], 1)
    later = without_first(modes)
    np.testing.assert_allclose(later.kernel(20)[0], modes.kernel(21)[0, 1:])
    log_pole, weight, change = with_first(later.log_pole, later.weight)
    np.testing.assert_allclose(log_pole, modes.log_pole)
    np.testing.assert_allclose(weight, modes.weight)
    assert change == 0


@pytest.mark.parametrize("pole", [1e-9, 1e-6, 0.9 * FASTEST, -1e-6, 1e-5 + 1e-5j])
def test_what_moving_a_fast_pole_changes_is_within_the_bound(pole: complex) -> None:
    """Of ``w a^k``, ``k >= 0``, which stands for ``K[1], K[2], ...``."""
    given = np.array([2 - 1j if np.imag(pole) else 2.0 + 0j])
    log_pole, weight, change = with_first(np.log(np.array([pole + 0j])), given)
    moved = np.exp(log_pole)
    np.testing.assert_allclose(np.abs(moved), FASTEST)
    k, z = np.arange(30), np.exp(1j * np.linspace(-np.pi, np.pi, 721))
    difference = weight * moved * moved ** k[:, None] - given * np.power(pole + 0j, k)[:, None]
    peak = np.abs((difference * z ** -k[:, None]).sum(axis=0)).max()
    assert peak <= change * (1 + 1e-9)
    assert change <= 1.001 * np.abs(given[0]) * np.abs(moved[0] - pole)
