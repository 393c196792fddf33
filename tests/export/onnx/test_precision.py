"""Fewer bits: what is rounded, by how much, and that the rest is left alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from click.testing import CliRunner
from onnx import TensorProto, numpy_helper

import s4edge
from s4edge import S4EdgeError
from s4edge.cli.main import cli
from s4edge.data.dataset import Data
from s4edge.export.lowering.program import Role
from s4edge.export.onnx.builder import GraphBuilder, array_of
from s4edge.export.onnx.precision import with_half_weights, with_int8_layers
from s4edge.runtime import open_graph, predict


def dense(weight: np.ndarray, bias: np.ndarray) -> ir.Model:
    g = GraphBuilder()
    x = g.input("x", ["batch", weight.shape[1]])
    g.output("y", g.linear(x, weight, bias), ["batch", len(weight)])
    return g.model("dense")


def outputs(model: ir.Model, x: np.ndarray) -> np.ndarray:
    written = ir.to_proto(model)
    onnx.checker.check_model(written, full_check=True)
    session = onnxruntime.InferenceSession(
        written.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(["y"], {"x": x})[0]


@pytest.mark.parametrize("calibrated", [False, True])
def test_int8_errs_by_half_a_step_of_each_factor(calibrated: bool) -> None:
    """The bound: sum over inputs of |w| dx + |x| dw, dx and dw half a step."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((40, 64)) * np.logspace(-4, 2, 40)[:, None]
    bias, x = rng.standard_normal(40), rng.standard_normal((9, 64)).astype(np.float32)
    ranges = {"x": (float(x.min()), float(x.max()))} if calibrated else None
    got = outputs(with_int8_layers(dense(weight, bias), ranges), x)
    x_step = (x.max() - x.min()) / 255
    w_step = np.abs(weight).max(axis=1) / 63
    bound = np.abs(weight).sum(axis=1) * x_step + np.abs(x).sum(axis=1)[:, None] * w_step / 2
    assert (np.abs(got - (x @ weight.T + bias)) <= bound + 1e-5).all()
    # Each output channel has a scale of its own: the small ones are as exact as the large.
    assert np.abs(got - (x @ weight.T + bias))[:, 0].max() < 1e-4


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1.0, 1e6])
def test_halves_keep_their_digits_at_any_scale(scale: float) -> None:
    rng = np.random.default_rng(0)
    weight, x = scale * rng.standard_normal((20, 16)), np.eye(16, dtype=np.float32)
    got = outputs(with_half_weights(dense(weight, np.zeros(20))), x)
    np.testing.assert_allclose(got, weight.T, rtol=2**-11, atol=2**-20 * np.abs(weight).max())


@pytest.mark.parametrize(
    ("role", "value", "halved"),
    [
        ("mode weight", 1 / 3, True),
        ("pole", 1 / 3, False),
        ("pole", 1.0, False),
        ("number", 1.0, True),
        ("number", 2049.0, False),
    ],
)
def test_halves_go_by_what_a_constant_is(role: Role, value: float, halved: bool) -> None:
    """Not by its name; what is no parameter only where it stays what it is."""
    g = GraphBuilder()
    x = g.input("x", ["batch", 80])
    g.output("y", g.add("Mul", x, g.constant(np.full(80, value), "p", role=role)), ["batch", 80])
    model = with_half_weights(g.model("product"))
    (kept,) = [each for each in model.graph.initializers.values() if array_of(each).size == 80]
    assert array_of(kept).dtype == (np.float16 if halved else np.float32)
    got = outputs(model, np.ones((1, 80), np.float32))
    np.testing.assert_allclose(got, value, rtol=2**-11 if role == "mode weight" else 1e-7)


def test_states_and_poles_stay_float32(tmp_path: Path, digits: Path) -> None:
    model = s4edge.load(digits / "model.pt")
    for precision in ("fp16", "int8"):
        s4edge.export_onnx(model, tmp_path / "m.onnx", precision=precision)
        graph = onnx.load(tmp_path / "m.onnx").graph
        kept = [each for each in graph.initializer if each.name.startswith(("p_", "q_"))]
        assert len(kept) == 2
        assert {each.data_type for each in kept} == {TensorProto.FLOAT}
        assert {value.type.tensor_type.elem_type for value in graph.input} == {TensorProto.FLOAT}
    s4edge.export_onnx(model, tmp_path / "full.onnx")
    exact = {each.name: each for each in onnx.load(tmp_path / "full.onnx").graph.initializer}
    for each in kept:
        assert np.array_equal(numpy_helper.to_array(each), numpy_helper.to_array(exact[each.name]))


@pytest.fixture
def data(digits: Path) -> Data:
    """Noise with the labels that the model itself gives, so that its accuracy is 1."""
    x = np.random.default_rng(0).random((60, 64, 1), dtype=np.float32)
    model = s4edge.load(digits / "model.pt")
    unlabelled = Data(x, np.zeros(60, np.int64), None, "noise")
    from s4edge.training.evaluate import predict as of_model

    return dataclasses.replace(unlabelled, y=of_model(model, unlabelled).argmax(axis=1))


@pytest.mark.parametrize("mode", ["step", "chunk", "sequence"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_answer_tells_what_it_costs(
    tmp_path: Path, digits: Path, data: Data, mode: str, precision: str
) -> None:
    model = s4edge.load(digits / "model.pt")
    exported = s4edge.export_onnx(model, tmp_path / "m.onnx", mode, precision=precision, data=data)
    assert exported.scores is not None
    before, after = exported.scores
    assert before.value == 1
    got = predict(open_graph(tmp_path / "m.onnx"), data.x).argmax(axis=1)
    assert data.y is not None
    assert after.value == pytest.approx((got == data.y).mean())
    assert (exported.activations is None) == (precision != "int8")
    assert after.value > 0.9


def test_fewer_bits_make_a_smaller_file(tmp_path: Path, digits: Path) -> None:
    model = s4edge.compress(s4edge.load(digits / "model.pt"), 8)
    sizes = {
        precision: s4edge.export_onnx(model, tmp_path / "m.onnx", precision=precision).bytes
        for precision in ("fp32", "fp16", "int8")
    }
    assert sizes["fp16"] < 0.85 * sizes["fp32"]
    assert sizes["int8"] < sizes["fp32"]


def test_unknown_precision(tmp_path: Path, digits: Path) -> None:
    model = s4edge.load(digits / "model.pt")
    with pytest.raises(S4EdgeError, match="known: fp32, fp16, int8"):
        s4edge.export_onnx(model, tmp_path / "m.onnx", precision="int4")


def test_on_the_command_line(
    tmp_path: Path, digits: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert data.y is not None
    np.savez("data.npz", x=data.x, y=data.y)
    call = ["export", str(digits / "model.pt"), "--onnx", "--chunk", "8", "--precision", "int8"]
    result = CliRunner().invoke(cli, [*call, "--data", "data.npz", "--json"])
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["output"] == "model-chunk8-int8.onnx"
    assert (answer["mode"], answer["samples_per_run"]) == ("chunk", 8)
    assert answer["activations"] in ("dynamic", "calibrated")
    assert answer["value"]["before"] == 1
    told = CliRunner().invoke(cli, [*call, "--data", "data.npz"])
    assert "accuracy on 60 samples" in told.output
    assert "in fp32" in told.output
    wrong = CliRunner().invoke(cli, [*call, "--mode", "step"])
    assert wrong.exit_code == 2
    assert "--chunk goes with --mode chunk" in wrong.stderr
    benched = CliRunner().invoke(cli, ["bench", "--duration", "0.05", "--json"])
    row = json.loads(benched.stdout)["results"][0]
    assert (row["mode"], row["samples_per_run"]) == ("chunk", 8)
    assert row["us_per_sample"] == pytest.approx(row["latency_us"]["p50"] / 8)


def test_halves_whose_largest_entry_is_negative() -> None:
    weight = np.random.default_rng(0).uniform(0, 1e4, (20, 16))
    weight[3, 5] = -2e5  # by itself beyond what a half can hold
    got = outputs(with_half_weights(dense(weight, np.zeros(20))), np.eye(16, dtype=np.float32))
    np.testing.assert_allclose(got, weight.T, rtol=2**-11, atol=2**-20 * 2e5)
