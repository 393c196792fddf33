"""Hankel singular values against many digits; measured errors are in the comments."""

from __future__ import annotations

import math
from pathlib import Path

import mpmath
import numpy as np
import pytest
import scipy.linalg
import scipy.special
from mpmath.matrices.eigen_symmetric import tridiag_eigen
from random_systems import (
    FAMILIES,
    decays,
    dense_real,
    determinant,
    make,
    merged,
    precise_hankel,
    real_gramian,
    side_by_side,
    weights,
)

import s4edge
from s4edge.systems import balancing
from s4edge.systems.balancing import NEGLIGIBLE, hankel_singular_values
from s4edge.systems.modes import Modes


def values(modes: Modes) -> np.ndarray:
    (result,) = hankel_singular_values(modes)
    assert len(result) == modes.real_states[0]
    assert (np.diff(result) <= 0).all()
    return result


def large_precise_hankel(modes: Modes, digits: int = 180) -> np.ndarray:
    """As `precise_hankel`, a few times as fast: what is cubic is done on whole numbers by numpy.

    ``M = L^T S L`` is rotated to tridiagonal form in fixed-point numbers of ``digits`` decimals;
    the product of its eigenvalues, down to the smallest, must be the one of Cauchy's formula.
    """
    with mpmath.workdps(digits):
        system = merged(modes)
        P, signs = real_gramian(system)
        n, bits = len(signs), mpmath.mp.prec
        unit = mpmath.mpf(2) ** bits
        largest = max(P[i, i] for i in range(n))
        L = mpmath.cholesky(P / largest)
        fixed = np.array([[int(x * unit) for x in row] for row in L.tolist()], dtype=object)
        M = (fixed.T * np.array(signs, dtype=object)) @ fixed >> bits
        diagonal, beside = mpmath.zeros(1, n), mpmath.zeros(1, n)
        for k in range(n):
            diagonal[k] = M[0, 0] / unit
            if k == n - 1:
                break
            v = M[1:, 0].copy()
            alpha = math.isqrt(v @ v) * (-1 if v[0] > 0 else 1)
            beside[k] = alpha / unit
            v[0] -= alpha
            M = M[1:, 1:]
            size = math.isqrt(v @ v)
            if size:  # reflect: M - u q^T - q u^T with q = 2 M u - 2 (u^T M u) u
                u = (v << bits) // size
                q = 2 * (M @ u) >> bits
                q = q - ((u @ q >> bits) * u >> bits)
                M = M - (np.outer(u, q) + np.outer(q, u) >> bits)
        tridiag_eigen(mpmath.mp, diagonal, beside)
        found = sorted((abs(x) * largest for x in diagonal), reverse=True)
        ratio = mpmath.fprod(found) / determinant(system)
        assert abs(ratio - 1) < mpmath.mpf(10) ** -20, "too few digits"
        return np.array([float(value) for value in found])


def worst_relative_error(modes: Modes) -> float:
    """Over those that are not negligible; the others must be negligible as well."""
    expected = (large_precise_hankel if len(modes.weight) > 24 else precise_hankel)(modes)
    found = values(modes)
    counted = expected > NEGLIGIBLE * expected[0]
    count = int(counted.sum())
    assert (found[count:] <= 2 * NEGLIGIBLE * expected[0]).all()
    return float(np.abs(found[:count] / expected[:count] - 1).max())


# Measured over 8 to 20 systems of 8 to 16 modes of each family: 4e-14 at most, 3e-15 typically.
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("family", FAMILIES)
def test_relative_accuracy(family: str, seed: int) -> None:
    assert worst_relative_error(FAMILIES[family](np.random.default_rng(seed), 8)) < 1e-12


@pytest.mark.parametrize("family", FAMILIES)
def test_relative_accuracy_with_16_modes(family: str) -> None:
    assert worst_relative_error(FAMILIES[family](np.random.default_rng(10), 16)) < 1e-12


def test_relative_accuracy_with_24_modes() -> None:
    rng = np.random.default_rng(11)
    assert worst_relative_error(FAMILIES["mixed"](rng, 24)) < 1e-12


# Measured over all families: 2e-14.
@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"spread"}))
def test_relative_accuracy_with_64_modes(family: str) -> None:
    assert worst_relative_error(FAMILIES[family](np.random.default_rng(12), 64)) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("family", FAMILIES)
def test_relative_accuracy_with_64_modes_of_more_systems(family: str, seed: int) -> None:
    assert worst_relative_error(FAMILIES[family](np.random.default_rng(seed), 64)) < 1e-12


@pytest.mark.parametrize("n", [8, 32])
@pytest.mark.parametrize("family", FAMILIES)
def test_both_ways_to_singular_values_agree(
    family: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # QR iteration with a correction where it will do, and Jacobi rotations for all.
    rng = np.random.default_rng(13)
    systems = [FAMILIES[family](rng, n) for _ in range(6)]
    systems.append(
        make(-0.02 - 0.5 * decays(rng, n) + 1j * np.linspace(0.1, 3, n), weights(rng, n))
    )
    plain = [values(modes) for modes in systems]
    monkeypatch.setattr(balancing, "_MILD", np.inf)
    for modes, found in zip(systems, plain, strict=True):
        expected = values(modes)
        count = int((expected > NEGLIGIBLE * expected[0]).sum())
        np.testing.assert_allclose(found[:count], expected[:count], rtol=1e-13)


@pytest.mark.parametrize("range_", [1e-3, 1e-6, 1e-8])
def test_mildly_graded_systems_do_not_need_jacobi_rotations(
    range_: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(14)
    n = 12
    size = np.geomspace(1, range_, n)
    modes = make(-0.01 + 1j * np.linspace(0.1, 3, n), size * np.exp(1j * rng.uniform(0, 6, n)))
    monkeypatch.setattr(balancing, "jacobi_svd", fail_unless_empty)
    assert worst_relative_error(modes) < 1e-13


def fail_unless_empty(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    assert len(matrices) == 0
    return matrices, matrices[..., 0], matrices


@pytest.mark.parametrize("seed", range(3))
def test_poles_as_slow_as_1e_12_and_as_fast_as_can_be(seed: int) -> None:
    rng = np.random.default_rng(seed)
    decay = 10 ** rng.uniform(-12, 1.3, 8)
    modes = make(-decay + 1j * rng.uniform(0.01, 3.1, 8), weights(rng, 8, 6))
    assert worst_relative_error(modes) < 1e-12


def all_but_real(about: float, seed: int) -> Modes:
    rng = np.random.default_rng(seed)
    angle = np.abs(about - 10 ** rng.uniform(-12, -1, 8))
    return make(-decays(rng, 8, 1e-6) + 1j * angle, weights(rng, 8))


@pytest.mark.parametrize("seed", range(4))
def test_pairs_that_all_but_meet_on_the_real_axis(seed: int) -> None:
    # A trained S4D layer's first pair is like this. Measured: 2e-14.
    assert worst_relative_error(all_but_real(0, seed)) < 1e-12


@pytest.mark.parametrize("seed", range(4))
def test_slow_pairs_close_to_minus_one_lose_a_few_digits(seed: int) -> None:
    # The sum of two angles near pi is rounded to 4e-16, not relatively to what 2 pi leaves of it.
    # Measured: 4e-11.
    assert worst_relative_error(all_but_real(np.pi, seed)) < 1e-8


def test_large_weights_that_cancel_cost_as_many_digits_as_cancel() -> None:
    rng = np.random.default_rng(0)
    log_pole, w = -decays(rng, 4) + 1j * rng.uniform(0.1, 3, 4), weights(rng, 4)
    gap = 1e-6
    modes = make(np.r_[log_pole, log_pole * (1 + gap)], np.r_[w / gap, -w / gap * (1 + 0.3 * gap)])
    assert worst_relative_error(modes) < 1e-16 / gap * 1e4


def test_gramians_of_well_conditioned_systems_by_lyapunov_equations() -> None:
    rng = np.random.default_rng(5)
    for _ in range(10):
        modes = make(-decays(rng, 4, 0.05) + 1j * np.array([0, 0.7, 1.8, np.pi]), weights(rng, 4))
        A, B, C = dense_real(modes)
        P = scipy.linalg.solve_discrete_lyapunov(A, np.outer(B, B))
        Q = scipy.linalg.solve_discrete_lyapunov(A.T, np.outer(C, C))
        expected = np.sqrt(np.sort(np.linalg.eigvals(P @ Q).real)[::-1])
        found = values(modes)
        assert np.abs(found - expected).max() < 1e-7 * expected[0]


def test_they_are_the_singular_values_of_the_hankel_matrix_of_the_kernel() -> None:
    rng = np.random.default_rng(6)
    modes = make(-decays(rng, 5, 0.08) + 1j * rng.uniform(0, np.pi, 5), weights(rng, 5))
    kernel = dense_real(modes).kernel(999)
    expected = np.linalg.svd(scipy.linalg.hankel(kernel[:500], kernel[499:]), compute_uv=False)
    np.testing.assert_allclose(values(modes), expected[:10], rtol=1e-9, atol=1e-13 * expected[0])


def test_one_real_pole_by_hand() -> None:
    # Kernel w a^k: the Hankel matrix is w v v^T with v = (1, a, a^2, ...).
    for a, w in ((0.5, 3.0), (-0.9, -2.0), (1 - 1e-9, 1e-30)):
        modes = make([complex(np.log(abs(a)), np.pi if a < 0 else 0)], [w])
        np.testing.assert_allclose(values(modes), [abs(w) / (1 - a * a)], rtol=1e-7)


@pytest.mark.parametrize("scale", [1e-280, 1e-150, 1e150, 1e280])
def test_they_scale_with_the_weights(scale: float) -> None:
    modes = FAMILIES["mixed"](np.random.default_rng(7), 6)
    scaled = make(modes.log_pole, modes.weight * scale)
    np.testing.assert_allclose(values(scaled), values(modes) * scale, rtol=1e-12, atol=0)


def test_channels_of_all_shapes_at_once() -> None:
    rng = np.random.default_rng(8)
    parts = [FAMILIES[family](rng, n) for family in FAMILIES for n in (1, 4)]
    parts.insert(3, make([], []))
    parts.insert(6, make([-0.1 + 1j, -0.2], [0, 0]))
    together = side_by_side(parts)
    for found, part in zip(hankel_singular_values(together), parts, strict=True):
        np.testing.assert_allclose(found, values(part), rtol=1e-12, atol=0)
    assert len(hankel_singular_values(together)[3]) == 0
    assert (hankel_singular_values(together)[6] == 0).all()


def test_no_channels_with_modes() -> None:
    assert [len(v) for v in hankel_singular_values(Modes.make([], [], [], 3))] == [0, 0, 0]


TRAINED = ["mnist_s4d", "spoken_digits_s4d", "mnist_dss_exp", "mnist_dss_softmax"]


@pytest.mark.parametrize("name", TRAINED)
def test_trained_layers_have_the_product_that_cauchys_formula_gives(
    name: str, shared: Path
) -> None:
    # Every channel, where the smallest counts: one wrong value would make the product wrong.
    model = s4edge.load(shared / "checkpoints" / "trained" / f"{name}.pt")
    for block in model.blocks:
        modes = block.systems.modes()
        assert modes.is_stable.all()
        assert not modes.is_real.any()
        checked = 0
        for channel, found in enumerate(hankel_singular_values(modes)):
            one = modes.of_channels(np.array([channel]))
            logs = np.concatenate([one.log_pole, one.log_pole.conj()])
            apart = scipy.special.expm1(logs[:, None] - logs) + np.eye(len(logs))
            to_circle = scipy.special.expm1(logs[:, None] + logs.conj())
            expected = (
                2 * np.log(np.abs(one.weight / 2)).sum()
                + np.log(np.abs(apart)).sum()
                + (len(logs) - 1) * logs.real.sum()
                - np.log(np.abs(to_circle)).sum()
            )
            if found[-1] > 10 * NEGLIGIBLE * found[0]:
                checked += 1
                assert np.log(found).sum() == pytest.approx(expected, abs=1e-10)
        assert checked > 0.8 * modes.channels


def check_trained(shared: Path, name: str, layer: int, channel: int, tolerance: float) -> None:
    model = s4edge.load(shared / "checkpoints" / "trained" / f"{name}.pt")
    modes = model.blocks[layer].systems.modes().of_channels(np.array([channel]))
    assert worst_relative_error(modes) < tolerance


# Channels with a pair whose poles are 1e-9 apart and Hankel singular values down to 1e-14 of the
# largest.
@pytest.mark.parametrize(("name", "channel"), [("mnist_s4d", 46), ("spoken_digits_s4d", 3)])
def test_a_trained_s4d_channel(name: str, channel: int, shared: Path) -> None:
    check_trained(shared, name, 0, channel, 1e-12)


def test_a_trained_channel_of_64_modes(shared: Path) -> None:
    check_trained(shared, "mnist_dss_exp", 1, 5, 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("layer", [0, 1])
def test_trained_channels(name: str, layer: int, shared: Path) -> None:
    for channel in (0, 31):
        check_trained(shared, name, layer, channel, 1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_references_agree_with_each_other(family: str) -> None:
    modes = FAMILIES[family](np.random.default_rng(9), 7)
    np.testing.assert_allclose(large_precise_hankel(modes), precise_hankel(modes), rtol=1e-15)


def test_the_reference_agrees_with_itself_at_twice_the_digits() -> None:
    modes = FAMILIES["clustered"](np.random.default_rng(9), 8)
    np.testing.assert_allclose(precise_hankel(modes, 100), precise_hankel(modes, 200), rtol=1e-15)
    with mpmath.workdps(50):
        assert determinant(merged(modes)) > 0
