"""Chunk graphs against the model and the step graph: any T, any length, one state for both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from models_by_hand import random_model

import s4edge
from s4edge import S4EdgeError
from s4edge.export.onnx import chunk_graph as chunks
from s4edge.export.onnx import slots
from s4edge.runtime import Graph, Stream, open_graph, predict


def opened(model: Any, path: Path, chunk: int | None) -> Graph:
    s4edge.export_onnx(model, path, "step" if chunk is None else "chunk", chunk=chunk)
    return open_graph(path)


def samples(length: int, batch: int = 3) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((batch, length, 2)).astype(np.float32)


@pytest.mark.parametrize("pooling", ["mean", "sum", "last", "first", "none"])
@pytest.mark.parametrize("chunk", [1, 4, 16])
def test_agrees_with_the_convolution(tmp_path: Path, pooling: str, chunk: int) -> None:
    model = random_model(pooling=pooling)
    graph = opened(model, tmp_path / "m.onnx", chunk)
    assert (graph.info.mode, graph.info.samples_per_run) == ("chunk", chunk)
    x = samples(101)
    stream = Stream(graph, batch=3)
    got = np.concatenate([stream.extend(x), stream.finish()], axis=1)
    with torch.inference_mode():
        expected = model.double().running(torch.from_numpy(x).double()).numpy()
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("chunk", [None, 5])
def test_channels_in_several_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int | None
) -> None:
    """As in models too large to fill every channel up to the widest."""
    monkeypatch.setattr(slots, "_SORTING_COST", 0)
    monkeypatch.setattr(slots, "_GROUP_COST", 1)
    model = random_model()
    assert len(slots.lay_out([block.systems.modes() for block in model.blocks]).groups) > 1
    x = samples(101)
    got = Stream(opened(model, tmp_path / "m.onnx", chunk), batch=3).extend(x)
    s4edge.export_onnx(model, tmp_path / "whole.onnx", "sequence")
    with torch.inference_mode():
        expected = model.double().running(torch.from_numpy(x).double()).numpy()
    assert np.abs(got - expected[:, : got.shape[1]]).max() < 1e-5 * np.abs(expected).max()


def test_outputs_do_not_depend_on_how_samples_come(tmp_path: Path) -> None:
    graph = opened(random_model(), tmp_path / "m.onnx", 8)
    x = samples(50)
    whole = Stream(graph, 3)
    wanted = np.concatenate([whole.extend(x), whole.finish()], axis=1)
    for cuts in ([1, 2, 3], [8, 16], [7, 15, 49], [0, 50]):
        stream = Stream(graph, 3)
        parts = [stream.extend(part) for part in np.split(x, cuts, axis=1)]
        found = np.concatenate([*parts, stream.finish()], axis=1)
        assert np.array_equal(found, wanted)


def test_finishing_is_a_look_and_no_step(tmp_path: Path) -> None:
    graph = opened(random_model(), tmp_path / "m.onnx", 8)
    x = samples(30)
    stream, other = Stream(graph, 3), Stream(graph, 3)
    stream.extend(x[:, :13])
    state, waiting = stream.state, stream.waiting
    assert waiting.shape == (3, 5, 2)
    first = stream.finish()
    assert first.shape[1] == 5
    assert np.array_equal(stream.finish(), first)
    assert np.array_equal(stream.state, state)
    assert np.array_equal(
        stream.extend(x[:, 13:]), np.concatenate([other.extend(x)], axis=1)[:, 8:]
    )
    stream.reset()
    assert stream.waiting.shape[1] == 0
    assert np.array_equal(stream.extend(x), Stream(graph, 3).extend(x))


def test_step_and_chunk_graphs_share_states(tmp_path: Path) -> None:
    model = random_model()
    step, chunk = (opened(model, tmp_path / f"{each}.onnx", each) for each in (None, 8))
    x = samples(40)
    whole = Stream(step, 3)
    wanted = whole.extend(x)
    scale = np.abs(wanted).max()
    by_chunk = Stream(chunk, 3)
    by_chunk.extend(x[:, :16])
    carried = Stream(step, 3)
    carried.restore(by_chunk.state)
    assert np.abs(carried.extend(x[:, 16:21]) - wanted[:, 16:21]).max() < 1e-5 * scale
    by_chunk.restore(carried.state)
    assert np.abs(by_chunk.extend(x[:, 21:37]) - wanted[:, 21:37]).max() < 1e-5 * scale


def test_save_and_restore_with_samples_waiting(tmp_path: Path) -> None:
    graph = opened(random_model(), tmp_path / "m.onnx", 8)
    x = samples(30)
    first, second = Stream(graph, 3), Stream(graph, 3)
    first.extend(x[:, :13])
    second.restore(first.state, first.waiting)
    assert np.array_equal(second.extend(x[:, 13:]), first.extend(x[:, 13:]))
    for wrong in (np.zeros((3, 8, 2)), np.zeros((2, 1, 2)), np.zeros((3, 2))):
        with pytest.raises(S4EdgeError, match="waiting samples of shape"):
            second.restore(first.state, wrong)


def test_bad_samples_are_refused_and_change_nothing(tmp_path: Path) -> None:
    graph = opened(random_model(), tmp_path / "m.onnx", 4)
    stream, x = Stream(graph, 3), samples(10)
    stream.extend(x[:, :6])
    with pytest.raises(S4EdgeError, match="2 samples wait for a whole chunk of 4"):
        stream.step(x[:, :4])
    for wrong in (np.zeros((3, 5)), np.zeros((2, 5, 2)), np.zeros((3, 5, 1))):
        with pytest.raises(S4EdgeError, match=r"\(batch, samples, d_input\) = \(3, any, 2\)"):
            stream.extend(wrong)
    with pytest.raises(S4EdgeError, match="float32 is wanted"):
        stream.extend(np.zeros((3, 5, 2), complex))
    other = Stream(graph, 3)
    assert np.array_equal(stream.extend(x[:, 6:]), other.extend(x)[:, 4:])


@pytest.mark.parametrize("length", [5, 16, 21])
def test_predicts_padded_sequences(tmp_path: Path, length: int) -> None:
    model = random_model()
    graph = opened(model, tmp_path / "m.onnx", 8)
    x, lengths = samples(length, batch=5), np.array([1, 3, length, length - 1, 2])
    with torch.inference_mode():
        expected = model(torch.from_numpy(x), torch.from_numpy(lengths)).numpy()
    got = predict(graph, x, lengths)
    assert np.abs(got - expected).max() < 1e-4 * np.abs(expected).max()


def test_matrices_are_what_the_graph_holds(tmp_path: Path) -> None:
    model = random_model()
    exported = s4edge.export_onnx(model, tmp_path / "m.onnx", "chunk", chunk=16)
    held = sum(
        4 * int(np.prod(each.dims))
        for each in onnx.load(tmp_path / "m.onnx").graph.initializer
        if each.name.startswith(("kernel_", "matrix_"))
    )
    assert exported.matrix_bytes == held


def test_the_chunk_is_chosen_and_bounded(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = s4edge.load(digits / "model.pt")
    exported = s4edge.export_onnx(model, tmp_path / "m.onnx", "chunk")
    assert exported.samples_per_run in chunks.CHUNKS
    assert exported.matrix_bytes is not None
    assert exported.matrix_bytes <= chunks.CHOSEN_BYTES
    monkeypatch.setattr(chunks, "LARGEST_BYTES", 1000)
    with pytest.raises(S4EdgeError, match="ask for shorter ones with --chunk"):
        s4edge.export_onnx(model, tmp_path / "n.onnx", "chunk", chunk=16)
    for mode, chunk in (("chunk", 0), ("step", 4)):
        with pytest.raises(S4EdgeError, match="chunk"):
            s4edge.export_onnx(model, tmp_path / "n.onnx", mode, chunk=chunk)
    assert not (tmp_path / "n.onnx").exists()


def test_trained_checkpoints_in_chunks_as_recorded(shared: Path, tmp_path: Path) -> None:
    for name in ("mnist_s4d", "mnist_dss_exp", "mnist_dss_softmax", "spoken_digits_s4d"):
        path = shared / "checkpoints" / "trained" / f"{name}.pt"
        graph = opened(s4edge.load(path), tmp_path / "m.onnx", 16)
        with np.load(path.with_suffix(".npz")) as recorded:
            x, logits = recorded["x"], recorded["logits"]
        got = predict(graph, x)
        assert np.abs(got - logits).max() < 1e-4 * np.abs(logits).max(), name
