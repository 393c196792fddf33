"""The step graph against the model it came from, and against a recurrence written out here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from models_by_hand import random_model

import s4edge
from s4edge import S4EdgeError
from s4edge.export.lowering import lower
from s4edge.export.onnx import onnx_file
from s4edge.model.systems.diagonal import DiagonalSystems
from s4edge.model.systems.feedforward import FeedForward, FeedForwardConfig
from s4edge.runtime import Stream, open_graph, predict
from s4edge.systems.modes import Modes


def test_a_ragged_model_streams_as_it_convolves(tmp_path: Path) -> None:
    model = random_model()
    exported = s4edge.export_onnx(model, tmp_path / "m.onnx")
    assert exported.max_abs_error < 1e-5 * exported.max_abs_output
    x = torch.randn(4, 700, 2, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model.double().running(x.double()).numpy()
    stream = Stream(open_graph(tmp_path / "m.onnx"), batch=4)
    got = np.stack([stream.step(sample.numpy()).copy() for sample in x.unbind(1)], axis=1)
    assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    "changes", [{"pooling": "none"}, {"decoder": "none", "d_output": 6}, {}], ids=str
)
def test_variants_of_the_backbone(tmp_path: Path, changes: dict[str, Any]) -> None:
    model = random_model(**changes)
    exported = s4edge.export_onnx(model, tmp_path / "m.onnx")
    assert exported.max_abs_error < 1e-5 * exported.max_abs_output


def test_a_gated_linear_unit_is_two_products(tmp_path: Path) -> None:
    """One of all rows would have to be cut, which takes longer."""
    s4edge.export_onnx(random_model(), tmp_path / "m.onnx")
    graph = onnx.load(tmp_path / "m.onnx").graph
    shapes = [tuple(each.dims) for each in graph.initializer]
    # Both halves of the first layer's 12 rows, and the second's linear layer.
    assert (shapes.count((6, 6)), shapes.count((6, 12)), shapes.count((12, 6))) == (3, 0, 0)


def test_uniform_and_ragged_layouts_agree(tmp_path: Path, digits: Path) -> None:
    small = s4edge.compress(s4edge.load(digits / "model.pt"), 8)
    s4edge.export_onnx(small, tmp_path / "uniform.onnx")
    ops = [node.op_type for node in onnx.load(tmp_path / "uniform.onnx").graph.node]
    # Every channel has four slots: nothing to put in order, real and imaginary parts to turn.
    assert ops.count("Gather") == 1
    x = np.random.default_rng(0).random((5, 64, 1), dtype=np.float32)
    with torch.inference_mode():
        expected = small(torch.from_numpy(x)).numpy()
    got = predict(open_graph(tmp_path / "uniform.onnx"), x)
    np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("mode", ["step", "chunk", "sequence"])
def test_the_rate_is_in_every_graph(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "m.onnx"
    for precision in ("fp32", "int8"):
        exported = s4edge.export_onnx(random_model(), path, mode, rate=4000, precision=precision)
        assert exported.to_json()["rate"] == open_graph(path).info.rate == 4000
    assert s4edge.export_onnx(random_model(), path, mode).rate is None
    assert open_graph(path).info.rate is None
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(S4EdgeError, match="rate must be a positive number"):
            s4edge.export_onnx(random_model(), path, mode, rate=wrong)


def test_only_standard_operators_of_a_low_opset(tmp_path: Path) -> None:
    exported = s4edge.export_onnx(random_model(), tmp_path / "m.onnx")
    graph = onnx.load(tmp_path / "m.onnx")
    assert [(o.domain, o.version) for o in graph.opset_import] == [("", exported.opset)]
    assert exported.opset == 17  # LayerNormalization's
    assert exported.nodes == len(graph.graph.node)
    description = json.loads(graph.metadata_props[0].value)
    assert description["state_floats"] == exported.state_floats
    assert exported.bytes == (tmp_path / "m.onnx").stat().st_size


@pytest.mark.parametrize("mode", ["step", "chunk", "sequence"])
def test_without_norms_an_older_opset_will_do(tmp_path: Path, mode: str) -> None:
    import dataclasses

    model = random_model()
    for block in model.blocks:
        block.config = dataclasses.replace(block.config, norm="none")
        block.norm = torch.nn.Identity()
    exported = s4edge.export_onnx(model, tmp_path / "m.onnx", mode, precision="int8")
    assert exported.opset == 13
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)


def test_slow_poles_do_not_drift(tmp_path: Path) -> None:
    """30,000 samples through poles of time constants up to 1,000, against float64."""
    from models_by_hand import random_modes

    from s4edge.model.systems.diagonal import DiagonalSystems

    model = random_model(pooling="none")
    rng = np.random.default_rng(0)
    for block in model.blocks:
        modes = random_modes(rng, 6, slowest=1e-3)
        block.systems = DiagonalSystems.from_modes(
            modes, rng.standard_normal(6), kind="slow", state_size=13, states_per_size=1
        )
    s4edge.export_onnx(model, tmp_path / "m.onnx")
    x = rng.standard_normal((1, 30_000, 2)).astype(np.float32)
    got = predict(open_graph(tmp_path / "m.onnx"), x)
    with torch.inference_mode():
        expected = model.double()(torch.from_numpy(x).double()).numpy()
    assert np.abs(got - expected).max() < 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("mode", ["step", "chunk", "sequence"])
@pytest.mark.parametrize("pooling", ["mean", "none"])
def test_feed_forward_layers_take_no_states(mode: str, pooling: str, tmp_path: Path) -> None:
    """Nor does a model of nothing else fail for having none."""
    model, path = random_model(pooling=pooling), tmp_path / "m.onnx"
    whole = s4edge.export_onnx(model, path, mode).state_floats
    floats = []
    for block in reversed(model.blocks):
        block.systems = FeedForward(FeedForwardConfig("feedforward", 6))
        exported = s4edge.export_onnx(model, path, mode)
        assert exported.max_abs_error < 1e-5 * exported.max_abs_output
        floats.append(exported.state_floats)
    if mode != "sequence":
        pooled = 7 if pooling == "mean" else 0
        assert whole > floats[0] > floats[1] == pooled + 2


def test_a_graph_that_disagrees_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = onnx_file.step_graph(lower(random_model(seed=1)))
    monkeypatch.setattr(onnx_file, "step_graph", lambda program, wide: other)
    with pytest.raises(S4EdgeError, match="differs from the model"):
        s4edge.export_onnx(random_model(), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_growing_modes_are_refused_with_the_reason(tmp_path: Path) -> None:
    model = random_model(length=50)
    modes = Modes.from_rows(np.full((6, 1), 0.01 + 1j), np.full((6, 1), 0.1))
    systems = DiagonalSystems.from_modes(
        modes, np.zeros(6), kind="dss-softmax", state_size=1, states_per_size=2, length=50
    )
    model.blocks[0].systems = systems
    blocks = list(model.config.blocks)
    import dataclasses

    blocks[0] = dataclasses.replace(blocks[0], systems=systems.config)
    model.config = dataclasses.replace(model.config, blocks=tuple(blocks))
    with pytest.raises(S4EdgeError, match="recurrence would be unstable"):
        s4edge.export_onnx(model, tmp_path / "m.onnx")


def test_trained_checkpoints_stream_as_recorded(shared: Path, tmp_path: Path) -> None:
    for name in ("mnist_s4d", "mnist_dss_exp", "mnist_dss_softmax", "spoken_digits_s4d"):
        path = shared / "checkpoints" / "trained" / f"{name}.pt"
        model = s4edge.compress(s4edge.load(path), 64)
        s4edge.export_onnx(model, tmp_path / "m.onnx")
        with np.load(path.with_suffix(".npz")) as recorded:
            x, logits = recorded["x"], recorded["logits"]
        got = predict(open_graph(tmp_path / "m.onnx"), x)
        assert np.abs(got - logits).max() < 1e-4 * np.abs(logits).max(), name
