"""The benchmark of C runs on a small model and says what it is to say."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import s4edge
from s4edge.training.initial import initial_model

RUN = Path(__file__).parents[2] / "benchmarks" / "c" / "run.py"


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here (apt install gcc)")
def test_two_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "gcc")
    monkeypatch.setattr(sys, "path", [*sys.path])
    # Only ours: another generator takes its time.
    monkeypatch.setitem(sys.modules, "emx_onnx_cgen", None)
    spec = importlib.util.spec_from_file_location("c_benchmark", RUN)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    model = tmp_path / "small.safetensors"
    s4edge.save(initial_model(1, 3, d_model=8, layers=1, state=4, seed=0), model)

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
