"""A system for which there is no onnxruntime: what needs it says so, the rest works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from s4edge_command import Outcome
from small_graph import WriteGraph

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
