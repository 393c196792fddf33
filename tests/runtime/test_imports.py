"""What a program on a board pays before its first sample."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import s4edge.bench
import s4edge.runtime


def modules_of(program: str) -> set[str]:
    code = f"{program}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_stream_imports_no_more_than_it_needs() -> None:
    needed = modules_of("import numpy, onnxruntime, json")
    # What opening a graph imports, too.
    program = "import s4edge.runtime.backends.onnx; from s4edge.runtime import Stream, open_graph"
    found = modules_of(program) - needed
    assert {name for name in found if name.startswith("s4edge")} == {
        "s4edge",
        "s4edge.arrays",
        "s4edge.errors",
        "s4edge.version",
        "s4edge.runtime",
        "s4edge.foreign",
        "s4edge.json_codec",
        *(f"s4edge.runtime.{name}" for name in ("description", "graph", "predict", "stream")),
        "s4edge.runtime.backends",
        *(f"s4edge.runtime.backends.{name}" for name in ("base", "onnx", "onnx_file")),
    }
    assert not found & {"numpy.random", "rich", "click", "decimal", "tempfile", "wave", "torch"}


def test_a_worker_imports_no_more_than_it_needs() -> None:
    found = modules_of("import s4edge.bench.worker")
    assert not found & {
        "s4edge.bench.local",
        "numpy.random",
        "rich",
        "click",
        "tempfile",
    }


@pytest.mark.parametrize("room", [s4edge.bench, s4edge.runtime], ids=["bench", "runtime"])
def test_every_name_is_there(room: ModuleType) -> None:
    assert dir(room) == sorted(room.__all__)
    for name in room.__all__:
        # Not a module that happens to be called so.
        assert callable(getattr(room, name))
