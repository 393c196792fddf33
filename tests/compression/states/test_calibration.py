"""What calibration measures of signals, against plain sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4edge.compression.states.calibration import autocorrelation, evenly


@pytest.mark.parametrize(("sequences", "length"), [(3, 11), (11, 3), (1, 1)])
def test_autocorrelation(sequences: int, length: int) -> None:
    u = np.random.default_rng(0).standard_normal((sequences, length))
    expected = [
        sum(row[t] * row[t + lag] for row in u for t in range(length - lag))
        for lag in range(length)
    ]
    found = autocorrelation(torch.from_numpy(u))
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize(("count", "most"), [(1, 5), (7, 7), (9, 4), (1000, 3)])
def test_an_even_choice(count: int, most: int) -> None:
    chosen = evenly(count, most)
    assert len(chosen) == min(count, most)
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    gaps = np.diff(chosen)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1
