"""Output errors as quadratic forms, against convolutions written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4edge.compression.states.kernel_error import (
    KernelError,
    Projected,
    error_of_response,
    output_error,
    transform,
    with_later,
)

SEQUENCES, LENGTH, SILENCE = 5, 23, 25


def signals(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An input that ends in silence, and two signals that do not."""
    rng = np.random.default_rng(seed)
    u, y, g = rng.normal(size=(3, SEQUENCES, LENGTH + SILENCE))
    u[:, LENGTH:] = 0
    return u.cumsum(axis=1) * (u != 0), y, g


def naive(u: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return np.array([np.convolve(row, kernel)[: u.shape[1]] for row in u])


@pytest.mark.parametrize("lags", [LENGTH, LENGTH - 1, 7, 1])
def test_the_error_is_that_of_the_convolution(lags: int) -> None:
    u, y, _ = signals(lags)
    kernel = np.random.default_rng(1).normal(size=lags)
    error = output_error(torch.from_numpy(u), torch.from_numpy(y), lags)
    expected = ((naive(u, kernel) - y) ** 2).sum()
    assert error.of(kernel) == pytest.approx(expected, rel=1e-12)
    assert error.constant == pytest.approx((y**2).sum(), rel=1e-14)
    np.testing.assert_allclose(error.gram, error.gram.T, rtol=1e-12)
    assert np.linalg.eigvalsh(error.gram).min() >= -1e-9 * np.trace(error.gram)


@pytest.mark.parametrize("lags", [LENGTH, 7])
def test_the_projected_error_is_that_of_the_inner_product(lags: int) -> None:
    u, y, g = signals(lags)
    kernel = np.random.default_rng(1).normal(size=lags)
    projected = Projected.of(*map(torch.from_numpy, (u, y, g)), lags)
    left = (g * (y - naive(u, kernel))).sum(axis=1)
    np.testing.assert_allclose(projected.aim - projected.values(kernel), left, rtol=1e-10)
    assert projected.error().of(kernel) == pytest.approx((left**2).sum(), rel=1e-10)


def test_sums_and_multiples() -> None:
    u, y, g = map(torch.from_numpy, signals(0))
    kernel = np.random.default_rng(1).normal(size=LENGTH)
    first, second = output_error(u, y, LENGTH), Projected.of(u, y, g, LENGTH).error()
    both = first.scaled(0.25).plus(second.scaled(3))
    assert both.of(kernel) == pytest.approx(0.25 * first.of(kernel) + 3 * second.of(kernel))


def test_later_lags_count_by_themselves() -> None:
    error = KernelError(np.zeros(4), np.zeros(3), 0.0, np.zeros((0, 3)), np.zeros(0))
    longer = with_later(error, np.array([4, 7]), np.array([1.0, -2.0]), 0.5)
    np.testing.assert_array_equal(longer.lag, [0, 1, 2, 4, 7])
    # 4 stands for the lags 3 and 4, 7 for 5 to 7.
    kernel = np.array([9.0, 9.0, 9.0, 3.0, 0.0])
    assert longer.of(kernel) == pytest.approx(0.5 * (2 * 2.0**2 + 3 * 2.0**2))
    assert longer.scaled(2).of(kernel) == pytest.approx(2 * longer.of(kernel))


def test_sums_of_spectra_in_either_precision() -> None:
    """A channel's own output is matched to the last digit; single precision costs the rest."""
    rng = np.random.default_rng(0)
    u = np.pad(rng.normal(size=(29, LENGTH)).cumsum(axis=1), [(0, 0), (0, SILENCE)])
    kernel = rng.normal(size=LENGTH)
    other = rng.normal(size=LENGTH)
    y = naive(u, kernel)
    response = transform(torch.from_numpy(np.pad(kernel, (0, SILENCE))))
    for dtype, rel in ((np.float64, 1e-12), (np.float32, 1e-6)):
        spectra = transform(torch.from_numpy(u.astype(dtype)))
        own = error_of_response(spectra, response, LENGTH)
        by_signal = output_error(*(torch.from_numpy(each.astype(dtype)) for each in (u, y)), LENGTH)
        expected = ((naive(u, other) - y) ** 2).sum()
        assert own.of(other) == pytest.approx(expected, rel=rel)
        assert by_signal.of(other) == pytest.approx(expected, rel=rel)
        assert own.of(kernel) <= 1e-12 * own.constant
