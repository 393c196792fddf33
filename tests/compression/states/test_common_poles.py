"""One smaller set of poles for many systems, against least squares over the samples themselves."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from s4edge.compression.states.common_poles import CORRELATION, SharedModes, reduce_shared, refit

SAMPLES = 400
FEATURES, MODES = 3, 7
# Fast enough that SAMPLES of their kernels are all; one is real, one lies nearly on the filter's.
STEPS = np.array([[1.0, 1.0], [0.6, 0.6], [1.7, 1.7]])


def systems(seed: int, rows: int = 2, bilinear: bool = False) -> SharedModes:
    rng = np.random.default_rng(seed)
    pole = -rng.uniform(0.06, 0.4, MODES) + 1j * rng.uniform(0.2, 1.5, MODES)
    pole[0], pole[1] = -0.3, np.log(CORRELATION) + 1e-9j
    weight = rng.normal(size=(2, rows, FEATURES, MODES))
    return SharedModes(pole, STEPS, weight[0] + 1j * weight[1], bilinear)


def powers(given: SharedModes, pole: np.ndarray) -> np.ndarray:
    """(features, samples, modes) of the discrete poles, which upstream's definitions give."""
    z = STEPS[:, :1] * pole.real + 1j * STEPS[:, 1:] * pole.imag
    a = (1 + z / 2) / (1 - z / 2) if given.bilinear else np.exp(z)
    return a[:, None, :] ** np.arange(SAMPLES)[:, None]


# Squared length under this is the mean square of the output for an input of that correlation.
METRIC = scipy.linalg.cholesky(scipy.linalg.toeplitz(CORRELATION ** np.arange(SAMPLES)))


def left(given: SharedModes, pole: np.ndarray) -> np.ndarray:
    """(rows, features) of each system's energy what the best weights for other poles leave."""
    out = np.zeros(given.weight.shape[:2])
    for f, (old, new) in enumerate(
        zip(powers(given, given.pole), powers(given, pole), strict=True)
    ):
        kernels = METRIC @ (old @ given.weight[:, f].T).real
        basis = METRIC @ np.hstack([new.real, new.imag])
        rest = kernels - basis @ np.linalg.lstsq(basis, kernels, rcond=1e-12)[0]
        out[:, f] = (rest**2).sum(axis=0) / (kernels**2).sum(axis=0)
    return out


@pytest.mark.parametrize("bilinear", [False, True])
def test_weights_are_the_best_for_the_poles(bilinear: bool) -> None:
    given = systems(0, bilinear=bilinear)
    pole = given.pole[[0, 1, 3, 4]] * 1.1
    weight = refit(given, pole)
    for f, (old, new) in enumerate(
        zip(powers(given, given.pole), powers(given, pole), strict=True)
    ):
        kernels = METRIC @ (old @ given.weight[:, f].T).real
        rest = kernels - METRIC @ (new @ weight[:, f].T).real
        found = (rest**2).sum(axis=0) / (kernels**2).sum(axis=0)
        np.testing.assert_allclose(found, left(given, pole)[:, f], rtol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_the_choice_is_the_greedy_one(seed: int) -> None:
    """Each mode that is added is the one that leaves least of all systems, tried one by one."""
    given = systems(seed)
    chosen: list[int] = []
    for _ in range(4):
        rest = [
            np.inf if n in chosen else left(given, given.pole[[*chosen, n]]).sum()
            for n in range(MODES)
        ]
        chosen.append(int(np.argmin(rest)))
    found = reduce_shared(given, 4, steps=0)
    np.testing.assert_array_equal(found.pole, given.pole[sorted(chosen)])
    np.testing.assert_allclose(found.weight, refit(given, found.pole))


@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_descent_ends_at_a_least_error(seed: int, bilinear: bool) -> None:
    given = systems(seed, bilinear=bilinear)
    start = reduce_shared(given, 3, steps=0).pole
    end = reduce_shared(given, 3).pole
    least = left(given, end).mean()
    assert least < 0.98 * left(given, start).mean()
    assert (end.real < 0).all()
    for n in range(3):
        for direction in (1, -1, 1j, -1j):
            near = end.copy()
            near[n] += 0.02 * -end[n].real * direction
            assert left(given, near).mean() > least * (1 - 1e-4)
