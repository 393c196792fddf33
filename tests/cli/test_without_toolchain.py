"""A board has numpy, onnxruntime and click only: what works there, and what it says else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from s4edge_command import Outcome

HEAVY = ("torch", "scipy", "onnx", "onnxscript", "safetensors", "threadpoolctl", "sklearn")

# Stands in for their not being installed.
BLOCKED = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
"""
COMMAND = BLOCKED + "from s4edge.cli.main import main\nmain()\n"


def python(folder: Path, code: str, *arguments: str) -> Outcome:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("options", [["--help"], ["--version"], ["eval", "--help"]])
def test_help(tmp_path: Path, options: list[str]) -> None:
    found = python(tmp_path, COMMAND, *options)
    assert (found.status, found.stderr) == (0, "")
    assert "s4edge" in found.stdout


def test_eval_of_a_graph(built: Path) -> None:
    found = python(built, COMMAND, "eval", "model-s16.onnx", "--data", "digits.npz", "--json")
    assert found.status == 0, found.stderr
    assert json.loads(found.stdout)["value"] > 0.95


def test_bench(built: Path) -> None:
    found = python(built, COMMAND, "bench", "model-s16.onnx", "--duration", "0.05", "--json")
    assert found.status == 0, found.stderr
    assert len(json.loads(found.stdout)["results"]) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["compress", "model.pt", "--state", "16"],
        ["inspect", "model-s16.safetensors"],
        ["export", "--onnx"],
        ["eval", "model.pt", "--data", "digits.npz"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_to_install(built: Path, arguments: list[str]) -> None:
    found = python(built, COMMAND, *arguments)
    assert found.status == 1
    assert found.stdout == ""
    (line,) = found.stderr.splitlines()
    assert line.startswith("Error: this needs ")
    assert line.endswith('which is not installed; type: pip install "s4edge[toolchain]"')


def test_in_python(tmp_path: Path) -> None:
    code = BLOCKED + (
        "import s4edge\n"
        "try:\n    s4edge.load\n"
        "except s4edge.S4EdgeError as error:\n    print(error)\n"
    )
    found = python(tmp_path, code)
    assert 'pip install "s4edge[toolchain]"' in found.stdout


def test_another_missing_module_is_no_matter_of_extras(tmp_path: Path) -> None:
    """What is not s4edge's own is not blamed on an extra."""
    code = COMMAND.replace("('torch',", "('numpy',")
    found = python(tmp_path, code, "bench")
    assert found.status == 1
    assert "No module named 'numpy'" in found.stderr
    assert "toolchain" not in found.stderr


def test_import_is_light(tmp_path: Path) -> None:
    code = (
        "import sys, s4edge, s4edge.cli.main\n"
        f"print([name for name in {(*HEAVY, 'numpy', 'onnxruntime')!r} if name in sys.modules])"
    )
    assert python(tmp_path, code).stdout == "[]\n"
    code = code.replace("s4edge.cli.main", "s4edge.runtime, s4edge.data.metrics")
    assert python(tmp_path, code).stdout == "['numpy']\n"
    code = code.replace("s4edge.runtime", "s4edge.runtime.backends.onnx")
    assert python(tmp_path, code).stdout == "['numpy', 'onnxruntime']\n"
