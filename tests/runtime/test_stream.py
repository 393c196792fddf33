from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from small_graph import D_INPUT, D_OUTPUT, Rotation, WriteGraph

from s4edge.errors import S4EdgeError
from s4edge.runtime import Graph, Stream, open_graph


@pytest.fixture
def graph(write_graph: WriteGraph) -> Graph:
    return open_graph(write_graph())


def samples(steps: int, batch: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((steps, batch, D_INPUT)).astype(np.float32)


def outputs(stream: Stream, x: np.ndarray) -> np.ndarray:
    return np.stack([stream.step(sample).copy() for sample in x])


@pytest.mark.parametrize("batch", [1, 5])
def test_agrees_with_the_recurrence(graph: Graph, rotation: Rotation, batch: int) -> None:
    x = samples(200, batch)
    found, wanted = outputs(Stream(graph, batch), x), rotation.outputs(x)
    assert found.shape == (200, batch, D_OUTPUT)
    assert found.dtype == np.float32
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_batch_of_one_takes_bare_samples_and_other_dtypes(graph: Graph) -> None:
    x = np.round(8 * samples(5))
    wanted = outputs(Stream(graph), x)
    assert np.array_equal(outputs(Stream(graph), x[:, 0]), wanted)
    assert np.array_equal(outputs(Stream(graph), x.astype(np.int64)), wanted)
    assert np.array_equal(
        outputs(Stream(graph), np.asfortranarray(x[..., ::-1])[..., ::-1]), wanted
    )
    assert np.array_equal(Stream(graph).step(x[0].tolist()), wanted[0])


@pytest.mark.parametrize("steps", [0, 1, 6, 7])
def test_reset_starts_over(graph: Graph, steps: int) -> None:
    stream, x = Stream(graph), samples(10)
    wanted = outputs(stream, x)
    stream.reset()
    for sample in samples(steps, seed=1):
        stream.step(sample)
    stream.reset()
    assert not stream.state.any()
    assert np.array_equal(outputs(stream, x), wanted)


@pytest.mark.parametrize("steps", [4, 5])
def test_restore_goes_on_exactly(graph: Graph, steps: int) -> None:
    x = samples(20)
    wanted = outputs(Stream(graph), x)
    first, second = Stream(graph), Stream(graph)
    outputs(first, x[:steps])
    saved = first.state
    outputs(first, x)
    for stream in (first, second):
        stream.restore(saved)
        assert np.array_equal(stream.state, saved)
        assert np.array_equal(outputs(stream, x[steps:]), wanted[steps:])


def test_saved_state_is_a_copy(graph: Graph) -> None:
    stream = Stream(graph)
    stream.step(samples(1)[0])
    saved = stream.state
    kept = saved.copy()
    outputs(stream, samples(4))
    assert np.array_equal(saved, kept)
    before = stream.state
    saved.fill(np.nan)
    assert np.array_equal(stream.state, before)


def test_streams_on_one_graph_are_independent(graph: Graph) -> None:
    xs = [samples(30, seed=seed) for seed in range(3)]
    alone = [outputs(Stream(graph), x) for x in xs]
    streams = [Stream(graph) for _ in xs]
    together = [
        [stream.step(x[t]).copy() for stream, x in zip(streams, xs, strict=True)] for t in range(30)
    ]
    for index, wanted in enumerate(alone):
        assert np.array_equal(np.stack([step[index] for step in together]), wanted)


def test_batch_lanes_are_independent(graph: Graph) -> None:
    x = samples(30, batch=3)
    wanted = outputs(Stream(graph, 3), x)
    x[:, 1] = np.nan
    found = outputs(Stream(graph, 3), x)
    assert np.array_equal(found[:, [0, 2]], wanted[:, [0, 2]])


def test_steps_allocate_nothing(graph: Graph) -> None:
    stream, x = Stream(graph), samples(1)[0]
    address = stream.step(x).ctypes.data
    assert all(stream.step(x).ctypes.data == address for _ in range(10))
    stream.step(x)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(1000):
            stream.step(x)
        assert tracemalloc.get_traced_memory()[0] - before < 2000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [(D_INPUT + 1,), (1, D_INPUT - 1), (2, D_INPUT), (1,), ()])
def test_wrong_shapes_are_refused_and_change_nothing(graph: Graph, shape: tuple[int, ...]) -> None:
    stream, x = Stream(graph), samples(4)
    wanted = outputs(Stream(graph), x)
    outputs(stream, x[:2])
    with pytest.raises(S4EdgeError, match=r"\(batch, d_input\) = \(1, 3\)"):
        stream.step(np.zeros(shape))
    assert np.array_equal(outputs(stream, x[2:]), wanted[2:])


def test_wrong_numbers_are_refused(graph: Graph) -> None:
    for bad in (np.zeros((1, D_INPUT), complex), np.array([["a"] * D_INPUT])):
        with pytest.raises(S4EdgeError, match="float32 is wanted"):
            Stream(graph).step(bad)
    # Never spread one sample over a batch.
    with pytest.raises(S4EdgeError):
        Stream(graph, 2).step(np.zeros(D_INPUT))
    with pytest.raises(S4EdgeError, match=r"\(batch, S\) = \(1, 2\)"):
        Stream(graph).restore(np.zeros(2))
    with pytest.raises(S4EdgeError, match="at least 1"):
        Stream(graph, 0)


def test_fixed_batch_size_is_kept(write_graph: WriteGraph) -> None:
    graph = open_graph(write_graph(batch=2))
    assert graph.batch == 2
    assert Stream(graph, 2).step(samples(1, 2)[0]).shape == (2, D_OUTPUT)
    with pytest.raises(S4EdgeError, match="fixed to batch size 2, not 1"):
        Stream(graph)
