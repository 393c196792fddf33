"""Whole-sequence graphs on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from models_by_hand import random_model

import s4edge
from s4edge.cli.main import cli


def call(*arguments: str) -> dict[str, object]:
    result = CliRunner().invoke(cli, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_sequence_graph_is_exported_and_evaluated(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).random((20, 64, 1), dtype=np.float32)
    np.savez("data.npz", x=x, y=np.arange(20) % 10)
    model = str(digits / "model.pt")
    exported = call("export", model, "--onnx", "--mode", "sequence")
    assert exported["output"] == "model-sequence.onnx"
    assert (exported["mode"], exported["samples_per_run"]) == ("sequence", None)
    assert exported["state_floats"] == 0
    of_graph = call("eval", "model-sequence.onnx", "--data", "data.npz")
    assert of_graph["value"] == call("eval", model, "--data", "data.npz")["value"]
    result = CliRunner().invoke(cli, ["bench", "model-sequence.onnx"])
    assert result.exit_code == 1
    assert "takes whole sequences" in result.stderr


def test_bench_passes_over_sequence_graphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    s4edge.export_onnx(random_model(), "step.onnx")
    s4edge.export_onnx(random_model(), "whole.onnx", mode="sequence")
    answer = call("bench", "--duration", "0.05")
    assert [result["model"] for result in answer["results"]] == ["step.onnx"]
