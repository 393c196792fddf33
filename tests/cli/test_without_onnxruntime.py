"""A system for which there is no onnxruntime: what needs it says so, the rest works."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models_by_hand import random_model
from s4edge_command import Outcome
from small_graph import WriteGraph

import s4edge

# Stands in for its not being installed.
WITHOUT = "import sys\nsys.modules['onnxruntime'] = None\n"


def python(folder: Path, code: str, *arguments: str) -> Outcome:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + code, *arguments], cwd=folder, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "command", [["bench"], ["bench", "model.onnx"], ["run", "model.onnx", "-"]]
)
def test_a_graph_says_what_is_missing(
    write_graph: WriteGraph, tmp_path: Path, command: list[str]
) -> None:
    assert write_graph() == tmp_path / "model.onnx"
    found = python(tmp_path, "from s4edge.cli.main import main\nmain()", *command)
    assert (found.status, found.stdout) == (1, "")
    assert found.stderr.endswith(
        "model.onnx needs onnxruntime, which is not installed; type: pip install onnxruntime\n"
    )
    assert found.stderr.count("\n") == 1


def test_a_device_is_described_all_the_same(tmp_path: Path) -> None:
    code = "import json, s4edge.bench\nprint(json.dumps(s4edge.bench.describe_device()))"
    found = json.loads(python(tmp_path, code).stdout)
    assert found["onnxruntime"] is None
    assert found["numpy"]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here (apt install gcc)")
def test_a_library_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streamed, evaluated and measured; the worker's process has none either."""
    model = random_model()
    s4edge.export_c(model, tmp_path / "m.c", compiler="gcc -O1", compiled=True)
    (tmp_path / "m.c").unlink()
    x = np.random.default_rng(0).standard_normal((4, 30, 2)).astype(np.float32)
    with torch.no_grad():
        y = model.running(torch.from_numpy(x)).numpy()
    np.save(tmp_path / "x.npy", x[0])
    np.savez(tmp_path / "d.npz", x=x, y=y[:, -1])
    # As an interpreter's own: workers and whatever else it starts have it, too.
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "onnxruntime.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'onnxruntime'\", name='onnxruntime')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    code = "from s4edge.cli.main import main\nmain()"

    def answer(*arguments: str) -> Any:
        done = python(tmp_path, code, *arguments, "--json")
        assert done.status == 0, done.stderr
        return json.loads(done.stdout)

    ran = answer("run", "m.so", "x.npy", "--last", "--no-classes")
    np.testing.assert_allclose(ran["y"], y[0, -1], atol=1e-5)
    assert answer("eval", "m.so", "--data", "d.npz")["value"] < 1e-8
    measured = answer("bench", "m.so", "--duration", "0.05")
    assert measured["device"]["onnxruntime"] is None
    assert measured["runtime"].startswith("C (gcc ")
    assert measured["results"][0]["runs"] > 0
    table = python(tmp_path, code, "bench", "m.so", "--duration", "0.05", "--verbose").stdout
    assert "runtime (Python, numpy) +" in table
