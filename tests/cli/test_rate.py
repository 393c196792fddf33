"""``compress --rate``, from file to file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from models_by_hand import random_model
from s4edge_command import answer, call

import s4edge
from s4edge.model.costs import multiply_adds


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``model.safetensors`` and ``data.npz`` of 24 sequences of 50 samples."""
    s4edge.save(random_model(), tmp_path / "model.safetensors")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((24, 50, 2)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=rng.integers(0, 3, 24))
    return tmp_path


def test_strides_alone(folder: Path) -> None:
    told = answer(folder, "compress", "model.safetensors", "--rate", "2,3")
    model = s4edge.load(folder / "model.safetensors")
    small = s4edge.load(folder / told["output"])
    assert told["output"] == "model-r2-3.safetensors"
    assert told["multiply_adds"] == {
        "before": multiply_adds(model), "after": multiply_adds(small),
    }  # fmt: skip
    assert told["rate"]["strides"] == [2, 3]
    assert "output_error" not in told
    assert [layer["error"] for layer in told["layers"]] == [None, None]
    assert told["real_states"]["before"] == told["real_states"]["after"]
    seen = answer(folder, "inspect", told["output"])
    assert seen["multiply_adds"] == told["multiply_adds"]["after"]
    assert sum(seen["multiply_adds_of"].values()) == pytest.approx(seen["multiply_adds"], abs=3)
    assert [layer["period"] for layer in seen["layers"]] == [1, 2]
    assert [layer["stride"] for layer in seen["layers"]] == [2, 3]
    assert call(folder, "inspect", told["output"]).stdout.count("layers run once for 1, 2 samples")


def test_strides_with_certificates_then_states(folder: Path) -> None:
    told = answer(
        folder, "compress", "model.safetensors", "--rate", "2,1,2", "--state", "4",
        "--calibrate", "data.npz", "-o", "small.safetensors",
    )  # fmt: skip
    assert told["rate"]["input_stride"] == 2
    assert told["rate"]["output_error"]["measured"] > 0
    assert told["state_size"]["after"] == 4
    assert told["method"] == "balanced"
    assert told["total_error"]["measured"] > 0
    model, small = (s4edge.load(folder / f"{name}.safetensors") for name in ("model", "small"))
    x = torch.from_numpy(np.load(folder / "data.npz")["x"])
    with torch.no_grad():
        y, found = model(x), small(x)
    wanted = float((found - y).norm() / y.norm())
    assert told["total_error"]["measured"] == pytest.approx(wanted, rel=1e-3)
    said = call(
        folder, "compress", "model.safetensors", "--rate", "2,1,2", "--state", "4",
        "--calibrate", "data.npz", "--report", "page.html",
    )  # fmt: skip
    assert f"together: the output differs by {wanted:.2%}" in said.stdout
    assert "Strides 1, 2; 2 at the input" in said.stdout
    assert "blocks.1" in (folder / "page.html").read_text()


def test_a_person_is_told(folder: Path) -> None:
    done = call(folder, "compress", "model.safetensors", "--rate", "2,2", "--calibrate", "data.npz")
    assert done.status == 0
    assert "Strides 2, 2" in done.stdout
    assert "multiply-adds per" in done.stdout
    assert "the last 2 are not heard" in done.stderr.replace("\n", " ")
    assert "Wrote model-r2-2.safetensors" in done.stdout


def test_chosen_then_distilled_then_streamed(folder: Path) -> None:
    told = answer(
        folder, "compress", "model.safetensors", "--rate", "auto", "--macs", "120", "--calibrate",
        "data.npz", "--finetune", "data.npz", "--epochs", "1", "--distill",
        "-o", "small.safetensors",
    )  # fmt: skip
    assert told["rate"]["chosen"]
    assert told["multiply_adds"]["after"] <= 120
    assert told["finetune"]["epochs"] == 1
    exported = answer(folder, "export", "small.safetensors", "--onnx")
    assert exported["mode"] == "chunk"
    period = s4edge.load(folder / "small.safetensors").config.stride
    assert exported["samples_per_run"] % period == 0
    graph = answer(folder, "eval", exported["output"], "--data", "data.npz")
    model = answer(folder, "eval", "small.safetensors", "--data", "data.npz")
    assert graph["value"] == model["value"]
    trained = answer(
        folder, "finetune", "small.safetensors", "--data", "data.npz", "--teacher",
        "model.safetensors", "--epochs", "1", "--match-layers", "0.5", "-o", "more.safetensors",
    )  # fmt: skip
    assert trained["output"] == "more.safetensors"
    assert s4edge.load(folder / "more.safetensors").config.stride == period


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rate", "2"], "1 stride for 2 layers"),
        (["--rate", "2,0"], "got 0"),
        (["--rate", "2,x"], "--rate takes whole numbers, as 2,2,2,1, or auto; got '2,x'"),
        (["--rate", ""], "or auto; got ''"),
        (["--rate", "auto"], "--calibrate DATA"),
        (["--rate", "64,2", "--calibrate", "data.npz"], "make one sample of 128"),
        (["--rate", "2,2", "--format", "upstream"], "not --rate"),
        (["--rate", "2,2", "--report", "r.html"], "a report shows states"),
        (["--rate", "auto", "--macs", "3", "--calibrate", "data.npz"], "the nearest is --rate"),
    ],
)
def test_bad_input(folder: Path, arguments: list[str], said: str) -> None:
    done = call(folder, "compress", "model.safetensors", *arguments)
    assert done.crash is None
    assert done.status == 1
    assert said in done.stderr.replace("\n", " ")
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [["--rate", "2,2", "--macs", "9"], ["--rate-tolerance", "0.1"], []]
)
def test_wrong_usage(folder: Path, arguments: list[str]) -> None:
    done = call(folder, "compress", "model.safetensors", *arguments)
    assert done.status == 2
