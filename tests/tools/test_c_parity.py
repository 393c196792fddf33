"""The comparison of upstream's checkpoints as C, on checkpoints made here."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import s4edge
from s4edge.training.initial import initial_model

FOLDER = Path(__file__).resolve().parents[2] / "tools" / "c_parity"
NATIVE = "x86-64, -O2"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("run", "fixtures"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("run")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """One with what stands for upstream's outputs, of two sequences."""
    path = tmp_path / "tiny.safetensors"
    model = initial_model(2, 3, d_model=6, layers=2, state=4, seed=0)
    s4edge.save(model, path)
    x = np.random.default_rng(0).standard_normal((2, 50, 2)).astype(np.float32)
    with torch.no_grad():
        y = model.double()(torch.from_numpy(x).double()).numpy()
    np.savez(path.with_suffix(".npz"), x=x, y=y)
    return path


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here (apt install gcc)")
def test_a_checkpoint_as_c(tool: Any, checkpoint: Path) -> None:
    found = tool.compare(0, checkpoint, [NATIVE])
    assert not found.why
    assert not found.wrong
    assert found.to_model[NATIVE] < 1e-5
    assert found.to_upstream[NATIVE] < 1e-5
    with np.load(checkpoint.with_suffix(".npz")) as held:
        np.savez(checkpoint.with_suffix(".npz"), x=held["x"], y=1.01 * held["y"])
    assert 0.005 < tool.compare(0, checkpoint, [NATIVE]).to_upstream[NATIVE] < 0.02


def test_why_there_is_nothing_to_run(
    tool: Any, checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.write_bytes(b"no checkpoint")
    found = tool.compare(0, checkpoint, [NATIVE])
    assert found.why.startswith("not read: ")
    monkeypatch.setattr(sys, "argv", ["run", "--folder", str(checkpoint.parent / "none")])
    assert tool.main() == 1
    assert "no checkpoint with recorded outputs in" in capsys.readouterr().out


def test_nan_and_other_shapes_are_as_far_as_can_be(tool: Any) -> None:
    ones = np.ones((2, 3))
    assert tool.off(ones * np.nan, ones) == np.inf
    assert tool.off(ones[:1], ones) == np.inf
    assert tool.off(ones * 1.5, ones * 2) == 0.25
