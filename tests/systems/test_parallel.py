"""Blocks of channels: the same bits for any number of threads, memory bounded by blocks."""

from __future__ import annotations

import os
import threading
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from random_systems import FAMILIES, decays, side_by_side, weights
from scipy.linalg import lapack, qr

from s4edge.compression.states.base import Reduced
from s4edge.compression.states.methods.balanced import balanced_truncation
from s4edge.systems import balancing, hinf, parallel
from s4edge.systems.balancing import hankel_singular_values
from s4edge.systems.hinf import hinf_distance
from s4edge.systems.lapack import jacobi_svd, pivoted_r
from s4edge.systems.modes import Modes
from s4edge.systems.parallel import available_cores, batches_of, map_batches


def test_cores_where_a_process_has_no_set_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS; where nobody knows, it is one."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for told, cores in ((5, 5), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda told=told: told)
        assert available_cores() == cores
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    for asked, cores in (("3", 3), ("9", 5), ("0", 5), ("", 5), ("many", 5), ("3,2", 5)):
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert available_cores() == cores


@pytest.mark.parametrize("threads", [1, 2, 7, None])
@pytest.mark.parametrize("block", [1, 3, 10, 100])
def test_blocks_come_in_order(threads: int | None, block: int) -> None:
    channels = np.arange(5, 15)
    result = map_batches(lambda some: some.tolist(), batches_of(channels, block), threads)
    assert [channel for some in result for channel in some] == channels.tolist()
    assert [len(some) for some in result[:-1]] == [block] * (len(result) - 1)


def test_no_channels() -> None:
    assert map_batches(len, batches_of(np.arange(0), 4)) == []


def test_threads_work_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=30)
    blocks = batches_of(np.arange(3), 1)
    assert map_batches(lambda some: meeting.wait() >= 0, blocks, threads=3) == [True] * 3


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_is_passed_on_without_work_on_blocks_not_begun(threads: int) -> None:
    begun = []

    def work(some: np.ndarray) -> None:
        begun.append(int(some[0]))
        if some[0] == 1:
            raise ValueError("block 1")
        time.sleep(0.01)

    with pytest.raises(ValueError, match="block 1"):
        map_batches(work, batches_of(np.arange(500), 1), threads)
    assert len(begun) < 250


def test_there_is_a_core() -> None:
    assert available_cores() >= 1


# LAPACK without the lock gives what scipy's wrappers give.


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_jacobi_svd_is_lapacks(n: int) -> None:
    rng = np.random.default_rng(n)
    grading = 10 ** rng.uniform(-8, 0, (2, 3, n))
    matrices = grading[0][:, :, None] * rng.normal(size=(3, n, n)) * grading[1][:, None, :]
    U, sigma, V = jacobi_svd(matrices)
    for index, matrix in enumerate(matrices):
        values, _, _, work, _, info = lapack.dgejsv(matrix.T, joba=2, jobu=0, jobv=0, jobr=0)
        assert info == 0
        np.testing.assert_array_equal(sigma[index], values * (work[0] / work[1]))
    np.testing.assert_allclose(U * sigma[:, None, :] @ V.transpose(0, 2, 1), matrices, atol=1e-13)
    for vectors in (U, V):
        product = vectors.transpose(0, 2, 1) @ vectors
        np.testing.assert_allclose(product, np.tile(np.eye(n), (3, 1, 1)), atol=1e-13)


@pytest.mark.parametrize("scale", [1e-307, 1e307, 1.7e308])
def test_jacobi_svd_of_the_smallest_and_largest_numbers(scale: float) -> None:
    """Where one of them is too large for a number, LAPACK gives all of them smaller."""
    matrix = np.random.default_rng(0).uniform(-1, 1, (6, 6))
    with np.errstate(over="ignore"):
        expected = scale * np.linalg.svd(matrix, compute_uv=False)
        (sigma,) = jacobi_svd(scale * matrix[None])[1]
    assert np.isinf(expected).sum() == (3 if scale > 1e308 else 0)
    np.testing.assert_allclose(sigma, expected, rtol=1e-12)


def test_jacobi_svd_of_nothing_and_of_zeros() -> None:
    assert [part.shape for part in jacobi_svd(np.zeros((2, 0, 0)))] == [
        (2, 0, 0),
        (2, 0),
        (2, 0, 0),
    ]
    U, sigma, V = jacobi_svd(np.zeros((1, 3, 3)))
    assert (sigma == 0).all()
    assert (U[0] == np.eye(3)).all()
    assert (V[0] == np.eye(3)).all()


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 6), (40, 80)])
def test_pivoted_r_is_that_of_a_pivoted_qr(n: int, m: int) -> None:
    matrices = np.random.default_rng(n).normal(size=(4, n, m))
    for matrix, found in zip(matrices, pivoted_r(matrices), strict=True):
        R, columns = qr(matrix.T, mode="r", pivoting=True)
        np.testing.assert_allclose(found[:, columns], R[:n], atol=1e-13)


# Results do not depend on threads, nor on what else is worked on.


def some_systems() -> tuple[Modes, list[Modes], np.ndarray]:
    rng = np.random.default_rng(0)
    parts = [FAMILIES[name](rng, n) for name in FAMILIES for n in (1, 5, 20) for _ in range(4)]
    parts = [parts[index] for index in rng.permutation(len(parts))]
    together = side_by_side(parts)
    return together, parts, np.minimum(together.real_states, rng.integers(0, 12, len(parts)))


def same_bits(first: Reduced, second: Reduced) -> bool:
    return (
        np.array_equal(first.modes.log_pole, second.modes.log_pole)
        and np.array_equal(first.modes.weight, second.modes.weight)
        and all(np.array_equal(*pair) for pair in zip(first.hankel, second.hankel, strict=True))
        and np.array_equal(first.error_bound, second.error_bound)
    )


def test_the_same_bits_for_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    together, _, orders = some_systems()
    monkeypatch.setattr(balancing, "_MOST", 3)
    monkeypatch.setattr(hinf, "_MOST", 3)
    results = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(parallel, "available_cores", lambda threads=threads: threads)
        reduced = balanced_truncation(together, orders)
        hankel = hankel_singular_values(together)
        results.append((reduced, hankel, hinf_distance(together, reduced.modes)))
    for reduced, hankel, error in results[1:]:
        assert same_bits(reduced, results[0][0])
        assert all(np.array_equal(*pair) for pair in zip(hankel, results[0][1], strict=True))
        assert (error == results[0][2]).all()


def test_the_same_bits_alone_and_with_others() -> None:
    together, parts, orders = some_systems()
    reduced = balanced_truncation(together, orders)
    error = hinf_distance(together, reduced.modes)
    for channel, part in enumerate(parts):
        alone = balanced_truncation(part, orders[channel : channel + 1])
        here = reduced.modes.of_channels(np.array([channel]))
        bound = reduced.error_bound[channel : channel + 1]
        assert same_bits(alone, Reduced(here, [reduced.hankel[channel]], bound))
        assert hinf_distance(part, alone.modes)[0] == error[channel]


# Memory


def peak(run: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_tables_per_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "available_cores", lambda: 2)
    rng = np.random.default_rng(1)
    few, many, n = 384, 1024, 20
    log_pole = -decays(rng, (many, n)) + 1j * rng.uniform(0.02, 3.1, (many, n))
    weight = weights(rng, (many, n))
    bytes_of = []
    for channels in (few, many):
        modes = Modes.from_rows(log_pole[:channels], weight[:channels])
        reduced = balanced_truncation(modes, np.full(channels, 8)).modes
        bytes_of.append(
            (
                peak(lambda modes=modes: balanced_truncation(modes, np.full(modes.channels, 8))),
                peak(lambda modes=modes, reduced=reduced: hinf_distance(modes, reduced)),
            )
        )
    for less, more in zip(*bytes_of, strict=True):
        # Both make several blocks. A table of 40 by 40 states is 12,800 bytes, one of 400 points
        # by 20 modes 64,000.
        assert more - less < 8000 * (many - few)
        assert more < 100e6
