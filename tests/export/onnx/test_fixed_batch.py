"""Graphs of a fixed number of sequences: what is in them, and that they compute the same."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from models_by_hand import random_model
from onnx import numpy_helper

import s4edge
from s4edge import S4EdgeError
from s4edge.cli.main import cli
from s4edge.data.dataset import Data
from s4edge.export.onnx import slots
from s4edge.model.configuration import HeadConfig
from s4edge.model.sequence_model import SequenceModel
from s4edge.runtime import Stream, open_graph, predict

# What any converter knows; erf for gelu, comparisons for a pool that keeps the first sample.
PLAIN = {
    *("Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "MatMul", "Gemm", "Conv", "ReduceMean"),
    *("Reshape", "Transpose", "Split", "Concat", "Gather", "Slice", "Identity"),
    *("Erf", "Sigmoid", "Tanh", "Relu", "Elu", "Softplus"),
}
CHANGES: list[dict[str, Any]] = [
    {}, {"pooling": "sum"}, {"pooling": "last"}, {"pooling": "first"}, {"pooling": "none"},
    {"encoder": "embedding", "d_input": 7},
]  # fmt: skip


def sequences(changes: dict[str, Any], count: int, length: int = 45) -> np.ndarray:
    rng = np.random.default_rng(1)
    if "encoder" in changes:
        return rng.integers(0, 7, (count, length))
    return rng.standard_normal((count, length, 2)).astype(np.float32)


def assert_static(path: Path, batch: int, further: set[str]) -> None:
    """Every size is a number, none is worked out, no index counts from the end."""
    proto = onnx.load(path)
    graph = proto.graph
    assert [(each.domain, each.version) for each in proto.opset_import] == [("", 13)]
    assert {node.op_type for node in graph.node} <= PLAIN | further
    values = {each.name: each for each in (*graph.value_info, *graph.input, *graph.output)}
    for node in graph.node:
        for name in node.output:
            assert values[name].type.tensor_type.elem_type
    for each in values.values():
        sizes = each.type.tensor_type.shape.dim
        assert all(size.WhichOneof("value") == "dim_value" and size.dim_value > 0 for size in sizes)
    assert {port.type.tensor_type.shape.dim[0].dim_value for port in graph.input} == {batch}
    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    assert {name for node in graph.node for name in node.input} >= set(constants)
    for node in graph.node:
        if node.op_type == "Reshape":
            assert (constants[node.input[1]] > 0).all()
        if node.op_type == "Slice":
            assert all((constants[name] >= 0).all() for name in node.input[1:])
        if node.op_type == "Gather" and node.input[1] in constants:
            assert (constants[node.input[1]] >= 0).all()


@pytest.mark.parametrize("changes", CHANGES, ids=str)
@pytest.mark.parametrize(("chunk", "batch"), [(None, 1), (8, 3)])
def test_sizes_are_numbers_and_answers_the_same(
    tmp_path: Path, changes: dict[str, Any], chunk: int | None, batch: int
) -> None:
    model = random_model(**changes)
    mode = "step" if chunk is None else "chunk"
    any_number, fixed = tmp_path / "any.onnx", tmp_path / "fixed.onnx"
    s4edge.export_onnx(model, any_number, mode, chunk=chunk)
    told = s4edge.export_onnx(model, fixed, mode, chunk=chunk, batch=batch)
    assert told.to_json()["batch"] == batch
    assert told.max_abs_error < 1e-5 * told.max_abs_output
    further = {"Equal", "Where"} if changes.get("pooling") == "first" else set()
    assert_static(fixed, batch, further | ({"Cast"} if "encoder" in changes else set()))
    # Five sequences: with three at once, the last two are filled up.
    x = sequences(changes, 5)
    wanted = predict(open_graph(any_number), x)
    got = predict(open_graph(fixed), x)
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_channels_in_several_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_SORTING_COST", 0)
    monkeypatch.setattr(slots, "_GROUP_COST", 1)
    for chunk in (None, 5):
        path = tmp_path / "m.onnx"
        mode = "step" if chunk is None else "chunk"
        told = s4edge.export_onnx(random_model(), path, mode, chunk=chunk, batch=1)
        assert told.max_abs_error < 1e-5 * told.max_abs_output
        assert_static(path, 1, set())


def test_streams_stand_side_by_side(tmp_path: Path) -> None:
    """Each of N streams gives what it gives alone, and no other number of them is taken."""
    path = tmp_path / "m.onnx"
    s4edge.export_onnx(random_model(), path, batch=3)
    graph = open_graph(path)
    x = sequences({}, 3)
    got = Stream(graph, 3).extend(x)
    s4edge.export_onnx(random_model(), path, batch=1)
    alone = np.concatenate([Stream(open_graph(path)).extend(each) for each in x])
    np.testing.assert_allclose(got, alone, atol=1e-5)
    with pytest.raises(S4EdgeError, match="fixed to batch size 3, not 1; export it with --batch 1"):
        Stream(graph)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_fewer_bits_and_data(tmp_path: Path, precision: str) -> None:
    """Scores, and ranges of activations, of a number of sequences that is no multiple."""
    model = random_model(d_model=64, pooling="none", decoder="linear")
    x = sequences({}, 7)
    y = np.random.default_rng(2).standard_normal((7, 45, 3)).astype(np.float32)
    data, path = Data(x, y, None, "noise"), tmp_path / "m.onnx"
    found = [
        s4edge.export_onnx(model, path, precision=precision, data=data, batch=batch).scores
        for batch in (None, 2)
    ]
    # Of dynamic ranges there is one for all sequences of a run.
    np.testing.assert_allclose(
        *([score.value for score in each] for each in found if each), rtol=0.05
    )


def test_the_command_line(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """run, eval and bench take such graphs as they take others."""
    monkeypatch.chdir(tmp_path)
    model = str(digits / "model.pt")

    def call(*arguments: str) -> dict[str, Any]:
        result = CliRunner().invoke(cli, [*arguments, "--json"])
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
        return found

    one = call("export", model, "--onnx", "--batch", "1", "--chunk", "16")
    assert (one["output"], one["batch"]) == ("model-chunk16-batch1.onnx", 1)
    assert call("export", model, "--onnx", "--batch", "4")["output"] == "model-batch4.onnx"
    call("export", model, "--onnx")
    rng = np.random.default_rng(0)
    np.savez("data.npz", x=rng.random((10, 64, 1), dtype=np.float32), y=np.arange(10))
    np.save("one.npy", rng.random((64, 1)))
    graphs = ["model.onnx", "model-chunk16-batch1.onnx", "model-batch4.onnx"]
    evaluated = [call("eval", each, "--data", "data.npz")["value"] for each in graphs]
    assert len(set(evaluated)) == 1
    ran = [call("run", each, "one.npy", "--last")["y"] for each in graphs[:2]]
    np.testing.assert_allclose(*ran, rtol=1e-4)
    refused = CliRunner().invoke(cli, ["run", "model-batch4.onnx", "one.npy"])
    assert refused.exit_code == 1
    assert "fixed to batch size 4, not 1" in refused.stderr
    measured = call("bench", *graphs, "--duration", "0.05")["results"]
    assert [each["samples_per_run"] for each in measured] == [1, 16, 1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--onnx", "--batch", "0"], "0 is not in the range x>=1"),
        (["--onnx", "--batch", "x"], "'x' is not a valid integer"),
        (["--onnx", "--batch", "1", "--mode", "sequence"], "sequence takes any number"),
        (["--c", "--batch", "1"], "--batch goes with --onnx"),
    ],
)
def test_wrong_numbers_are_refused_in_a_line(
    digits: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    out = tmp_path / "m.onnx"
    result = CliRunner().invoke(
        cli, ["export", str(digits / "model.pt"), *arguments, "-o", str(out)]
    )
    assert result.exit_code == 2
    assert said in result.stderr.splitlines()[-1]
    assert not out.exists()
    with pytest.raises(S4EdgeError, match="batch must be at least 1, not 0"):
        s4edge.export_onnx(random_model(), out, batch=0)
    with pytest.raises(S4EdgeError, match="any number of sequences"):
        s4edge.export_onnx(random_model(), out, "sequence", batch=2)


def test_a_head_is_as_wide_as_its_model(tmp_path: Path) -> None:
    head = HeadConfig(contrasts=True, widths=(5,), activation="relu", d_output=2)
    model = SequenceModel(
        dataclasses.replace(random_model(decoder="none", d_output=6).config, head=head)
    )
    told = s4edge.export_onnx(model, tmp_path / "m.onnx", batch=3)
    assert told.head is not None
    assert_static(told.head, 3, set())
