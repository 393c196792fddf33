"""Models whose layers run once for several samples: streamed by C and by chunk graphs."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models_by_hand import random_model

import s4edge
from s4edge import S4EdgeError
from s4edge.export.lowering.lower import lower
from s4edge.model.sequence_model import SequenceModel
from s4edge.runtime import Stream, open_graph, predict

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here")

PERIOD = 12


def several_rates(pooling: str = "mean", **changes: Any) -> SequenceModel:
    """The input read two samples at a time, layers behind means of three and of two."""
    plain = random_model(pooling=pooling)
    blocks = tuple(
        dataclasses.replace(block, stride=stride)
        for block, stride in zip(plain.config.blocks, (3, 2), strict=True)
    )
    torch.manual_seed(1)
    model = SequenceModel(
        dataclasses.replace(plain.config, blocks=blocks, input_stride=2, **changes)
    )
    for block, its in zip(model.blocks, plain.blocks, strict=True):
        block.systems = its.systems
    return model.eval()


def inputs(batch: int, samples: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal((batch, samples, 2)).astype(np.float32)


@pytest.fixture(scope="module", params=["mean", "none"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model, and the folder with ``m.onnx`` (chunks of 24) and ``m.so``."""
    folder, model = tmp_path_factory.mktemp("rates"), several_rates(request.param)
    s4edge.export_onnx(model, folder / "m.onnx", "chunk", chunk=2 * PERIOD)
    s4edge.export_c(model, folder / "m.c", compiler="gcc -O1", compiled=True, chunk=7)
    return model, folder


def streamed(model: SequenceModel, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        return model.double().stream(torch.from_numpy(x).double()).numpy()


@needs_gcc
def test_steps_and_chunks_of_any_length_in_c(built: tuple[SequenceModel, Path]) -> None:
    model, folder = built
    x = inputs(2, 90)
    wanted, stream = streamed(model, x), Stream(open_graph(folder / "m.so"), 2)
    for _ in range(2):  # from the start again: the counters are reset, too
        lengths, got, start = [1, 5, 1, 12, 24, 3, 30, 1, 13], [], 0
        for length in lengths:
            got.append(stream.extend(x[:, start : start + length]).copy())
            start += length
        np.testing.assert_allclose(np.concatenate(got, axis=1), wanted[:, :start], atol=1e-5)
        stream.reset()


@needs_gcc
def test_chunk_graphs_give_what_c_gives(built: tuple[SequenceModel, Path]) -> None:
    model, folder = built
    x = inputs(3, 100)
    graph, c = (Stream(open_graph(folder / name), 3) for name in ("m.onnx", "m.so"))
    by_graph, by_c = [], []
    for part in np.split(x, [10, 47], axis=1):
        by_graph.append(graph.extend(part))
        by_c.append(c.extend(part))
    rest = graph.finish()
    assert rest.shape[1] == 100 % (2 * PERIOD)
    found = np.concatenate([*by_graph, rest], axis=1)
    np.testing.assert_allclose(found, np.concatenate(by_c, axis=1), atol=1e-5)
    np.testing.assert_allclose(found, streamed(model, x), atol=1e-5)


@needs_gcc
def test_outputs_of_whole_data(built: tuple[SequenceModel, Path]) -> None:
    model, folder = built
    x, lengths = inputs(4, 61), np.array([61, 13, 12, 40])
    with torch.no_grad():
        held = dataclasses.replace(model.config, held=True)
        model.double().config = held
        wanted = model(torch.from_numpy(x).double(), torch.from_numpy(lengths)).numpy()
    for name in ("m.onnx", "m.so"):
        found = predict(open_graph(folder / name), x, lengths)
        if found.ndim == 3:
            found, aim = found[1, :13], wanted[1, :13]
        else:
            aim = wanted
        np.testing.assert_allclose(found, aim, atol=1e-5)


def test_answers_are_held_and_zero_before_the_first() -> None:
    model = several_rates("none").double()
    x = inputs(1, 40)
    y = streamed(model, x)[0]
    assert (y[: PERIOD - 1] == 0).all()
    new = np.flatnonzero((np.diff(y, axis=0) != 0).any(axis=1)) + 1
    assert new.tolist() == [11, 23, 35]
    with torch.no_grad():
        plain = model(torch.from_numpy(x).double())
        model.config = dataclasses.replace(model.config, held=True)
        held = model(torch.from_numpy(x).double())
    assert plain.shape == (1, 3, 3)
    np.testing.assert_allclose(held[0].numpy(), y, atol=1e-12)


def test_a_sequence_of_less_than_a_window_is_refused() -> None:
    model = several_rates()
    with pytest.raises(S4EdgeError, match="one sample of 12: 11 are too few"):
        model(torch.zeros(1, 11, 2))
    with pytest.raises(S4EdgeError, match="one sample of 12: 5 are too few"):
        model(torch.zeros(2, 30, 2), torch.tensor([30, 5]))


def test_graphs_that_cannot_be(tmp_path: Path) -> None:
    model = several_rates()
    with pytest.raises(S4EdgeError, match=r"answers once for 12 samples.*--mode chunk.*--c"):
        s4edge.export_onnx(model, tmp_path / "m.onnx")
    with pytest.raises(S4EdgeError, match="chunks of 16 are no multiple of: ask for --chunk 24"):
        s4edge.export_onnx(model, tmp_path / "m.onnx", "chunk", chunk=16)


def test_chosen_chunks_hold_whole_windows(tmp_path: Path) -> None:
    told = s4edge.export_onnx(several_rates(), tmp_path / "m.onnx", "chunk")
    assert told.samples_per_run is not None
    assert told.samples_per_run % PERIOD == 0
    told = s4edge.export_onnx(several_rates(), tmp_path / "m.onnx", "chunk", batch=1)
    assert told.max_abs_error < 1e-5 * told.max_abs_output


@needs_gcc
def test_multiply_adds_are_per_input_sample(tmp_path: Path) -> None:
    model = several_rates()
    program, plain = lower(model), lower(random_model())
    whole = {
        stage.name: s.weight.value.size
        for stage in program.stages
        if hasattr(s := stage.operation, "weight")
    }
    by_hand = sum(
        size / (2 if name == "encoder" or "blocks.0" in name else 6 if "blocks.1" in name else 12)
        for name, size in whole.items()
    )
    for (_, systems), period in zip(plain.systems, (2, 6), strict=True):
        by_hand += sum(2 if real else 6 for real in systems.modes.is_real) / period
    assert program.multiply_adds == round(by_hand)
    told = s4edge.export_c(model, tmp_path / "m.c")
    assert told.multiply_adds == program.multiply_adds
    text = (tmp_path / "m.c").read_text()
    assert f"{program.multiply_adds:,} multiply-adds a sample" in text


@needs_gcc
def test_the_self_test_covers_a_window(tmp_path: Path) -> None:
    s4edge.export_c(several_rates(), tmp_path / "m.c", compiler="gcc -O1", compiled=True)
    text = (tmp_path / "m.c").read_text()
    samples = int(text.partition("TRIAL_SAMPLES = ")[2].partition(" ")[0])
    assert samples > PERIOD
