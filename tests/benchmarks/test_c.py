"""The benchmark of C runs on a small model and says what it is to say."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import s4edge
from s4edge.training.initial import initial_model

FOLDER = Path(__file__).parents[2] / "benchmarks" / "c"
pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here (apt install gcc)")


def benchmark_of(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of a benchmark's command."""
    monkeypatch.setenv("CC", "gcc")
    monkeypatch.setattr(sys, "path", [*sys.path])
    # Only ours: another generator takes its time.
    monkeypatch.setitem(sys.modules, "emx_onnx_cgen", None)
    spec = importlib.util.spec_from_file_location(f"c_benchmark_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, benchmark)
    spec.loader.exec_module(benchmark)
    return benchmark


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    s4edge.save(initial_model(1, 3, d_model=8, layers=1, state=4, seed=0), path)
    return path


def test_two_rounds(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = benchmark_of("run", monkeypatch)

    told = CliRunner().invoke(benchmark.main, ["--model", str(model), "--rounds", "2"])

    assert told.exit_code == 0, told.output
    assert "small.safetensors (32 real states)" in told.output
    rows = re.findall(r"^\| (\S.*?) +\| +([\d.]+) \| +([\d.]+) \|(.*)\|$", told.output, re.M)
    found = {name: (float(fastest), float(median)) for name, fastest, median, _ in rows}
    assert list(found) == [
        "C step, -O2", "C chunk, -O2", "C step, -O3 native", "C chunk, -O3 native", "step graph",
        "chunk graph of 16",
    ]  # fmt: skip
    assert all(0 < fastest <= median for fastest, median in found.values())
    ratios = {name: re.findall(r"([\d.]+) \(", rest) for name, _, _, rest in rows}
    assert [len(each) for each in ratios.values()] == [0, 0, 0, 0, 2, 2]
    # A small graph costs what a call of onnxruntime costs.
    assert all(float(each) > 1 for each in ratios["step graph"])
    assert "state and scratch of C:" in told.output


def test_engines(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is here, and one that is not, in processes of their own."""
    benchmark = benchmark_of("engines", monkeypatch)
    arguments = ["--model", str(model), "--rounds", "2", "--engine", "onnxruntime", "--engine"]
    told = CliRunner().invoke(benchmark.main, [*arguments, "IREE"])
    assert told.exit_code == 0, told.output
    assert "IREE is not installed: pip install iree-base-runtime iree-base-compiler" in told.output
    assert "emx-onnx-cgen is not installed" in told.output
    rows = [line.split("|")[1:-1] for line in told.output.splitlines() if line.startswith("|")][2:]
    found = {row[0].strip(): (float(row[1]), float(row[-1])) for row in rows}
    assert {"onnxruntime, step", "onnxruntime, chunk of 16", "s4edge's C, step, -O2"} <= set(found)
    assert all(time > 0 and difference < 1e-5 for time, difference in found.values())
    refused = CliRunner().invoke(benchmark.main, ["--engine", "abacus"])
    assert refused.exit_code == 2
    assert "engine 'abacus' is unknown; known: onnxruntime, OpenVINO" in refused.output
