"""``compress --rank`` and ``--width``, from file to file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models_by_hand import random_model
from s4edge_command import answer, call

import s4edge
from s4edge.runtime import Stream, open_graph


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``model.safetensors`` and ``data.npz`` of 24 sequences of 50 samples."""
    s4edge.save(random_model(d_model=10), tmp_path / "model.safetensors")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((24, 50, 2)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=rng.integers(0, 3, 24))
    return tmp_path


def compress(folder: Path, *arguments: str) -> dict[str, Any]:
    return answer(folder, "compress", "model.safetensors", *arguments, "--calibrate", "data.npz")


def test_ranks_alone(folder: Path) -> None:
    told = compress(folder, "--rank", "4")
    assert told["output"] == "model-rank4.safetensors"
    assert told["rank"]["rank"] == 4
    assert told["output_error"] == told["rank"]["output_error"]
    assert told["real_states"]["before"] == told["real_states"]["after"]
    # 10 -> 20 and 10 -> 10 features.
    saved = 10 * 20 - 4 * 30 + 10 * 10 - 4 * 20
    assert told["multiply_adds"]["before"] - told["multiply_adds"]["after"] == saved
    assert [layer["dense"] for layer in told["layers"]] == ["mixing", "mixing"]
    seen = answer(folder, "inspect", told["output"])
    assert seen["multiply_adds"] == told["multiply_adds"]["after"]
    assert [layer["ranks"] for layer in seen["layers"]] == [{"mixing": 4}, {"mixing": 4}]
    assert seen["history"][-1]["did"] == "rank"
    assert "blocks.0: mixing of rank 4" in call(folder, "inspect", told["output"]).stdout
    done = call(folder, "compress", "model.safetensors", "--rank", "4", "--calibrate", "data.npz")
    assert "10 -> 4 -> 20" in done.stdout
    assert "multiply-adds per" in done.stdout


@pytest.mark.parametrize(("width", "left"), [("7", 7), ("0.6", 6)])
def test_a_width_alone(folder: Path, width: str, left: int) -> None:
    told = compress(folder, "--width", width)
    assert told["output"] == f"model-w{width}.safetensors"
    assert told["width"]["width"] == left
    assert told["output_error"] == told["width"]["output_error"]
    seen = answer(folder, "inspect", told["output"])
    assert seen["d_model"] == left
    assert seen["multiply_adds"] == told["multiply_adds"]["after"]
    assert [layer["channels"] for layer in seen["layers"]] == [left, left]
    assert seen["history"][-1]["did"] == "width"
    done = call(
        folder, "compress", "model.safetensors", "--width", width, "--calibrate", "data.npz"
    )
    assert f"Width 10 -> {left}" in done.stdout


@pytest.mark.parametrize("rank", ["0.5", "auto"])
def test_ranks_with_rates_and_states_then_trained(folder: Path, rank: str) -> None:
    more = ["--rank-tolerance", "0.3"] if rank == "auto" else []
    told = compress(
        folder, "--rank", rank, *more, "--width", "0.9", "--rate", "2,1", "--state", "4",
        "-o", "small.safetensors", "--finetune", "data.npz", "--epochs", "1", "--distill",
    )  # fmt: skip
    small = s4edge.load(folder / "small.safetensors")
    did = [entry["did"] for entry in answer(folder, "inspect", "small.safetensors")["history"]]
    assert did == ["rate", "width", "rank", "compress", "finetune"]
    assert any(block.config.dense for block in small.blocks)
    assert told["multiply_adds"]["after"] < told["multiply_adds"]["before"] / 2
    assert told["total_error"]["measured"] > 0
    if rank == "auto":
        assert told["rank"]["output_error"]["measured"] <= 0.3


@pytest.mark.parametrize("target", ["c", "step", "chunk"])
def test_files_compute_it(folder: Path, target: str) -> None:
    compress(folder, "--rank", "4", "--width", "9", "-o", "small.safetensors")
    model = s4edge.load(folder / "small.safetensors")
    if target == "c":
        if shutil.which("cc") is None:
            pytest.skip("there is no C compiler")
        path = folder / "model.so"
        s4edge.export_c(model, path.with_suffix(".c"), compiled=True)
    else:
        path = folder / "model.onnx"
        s4edge.export_onnx(model, path, target)
    x = np.random.default_rng(3).standard_normal((1, 64, 2)).astype(np.float32)
    stream = Stream(open_graph(path))
    got = np.concatenate([stream.extend(x), stream.finish()], axis=1)
    with torch.no_grad():
        wanted = model.double().running(torch.from_numpy(x).double()).numpy()
    assert np.abs(got - wanted).max() < 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--rank", "4"], "ranks are chosen by the layers' inputs: add --calibrate DATA"),
        (["--rank", "many"], "--rank takes a whole number, a fraction as 0.5, or auto; got 'many'"),
        (["--width", "4"], "features are chosen by what layers read: add --calibrate DATA"),
        (["--width", "wide"], "--width takes a whole number or a fraction as 0.75, got 'wide'"),
        (["--width", "0"], "a width is a whole number from 1 up, got 0"),
        (["--width", "inf"], "is between 0 and 1, got inf"),
        (["--width", "10"], "takes no feature away: the model has 10"),
        (["--width", "4", "--state", "2", "--format", "upstream"], "not --width"),
        (["--rank", "0"], "a rank is a whole number from 1 up, got 0"),
        (["--rank", "1.5"], "is between 0 and 1, got 1.5"),
        (["--rank", "nan"], "is between 0 and 1, got nan"),
        (["--rank", "60"], "the rank 60 saves nothing: blocks.0: mixing of 10 -> 20 features"),
        (["--rank", "4", "--rank-tolerance", "0.1"], "--rank-tolerance goes with --rank auto"),
        (["--rank", "4", "--state", "2", "--format", "upstream"], "not --rank"),
    ],
)
def test_bad_ranks_are_one_line(folder: Path, arguments: list[str], why: str) -> None:
    done = call(folder, "compress", "model.safetensors", *arguments)
    assert done.status == 2 or (done.status == 1 and done.stderr.count("\n") == 1)
    assert why in done.stderr
    assert not list(folder.glob("model-*"))
