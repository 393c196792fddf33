"""``--json``: one object on stdout with the documented keys, notes on stderr."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from s4edge_command import call

LAYERS, CHANNELS = 3, 48


def answer(folder: Path, *arguments: str) -> dict[str, Any]:
    """The JSON object of a call that must succeed; all of stdout is it."""
    found = call(folder, *arguments, "--json")
    assert found.status == 0, found.stderr
    assert found.stdout.endswith("}\n")
    assert found.stdout.count("\n") == 1
    parsed = json.loads(found.stdout, parse_constant=_refuse)
    assert isinstance(parsed, dict)
    return parsed


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def test_inspect(built: Path) -> None:
    found = answer(built, "inspect", "model.pt")
    assert "S4D" in found["format"]
    assert (found["d_input"], found["d_output"], found["d_model"]) == (1, 10, CHANNELS)
    # Upstream counts 33,706: there every channel has a step size of its own beside its poles.
    assert found["parameters"] == 33_706 - LAYERS * CHANNELS
    assert found["inferred"]["d_state"] == 64
    assert found["inferred"]["n_layers"] == LAYERS
    assert found["assumed"] == {}  # the sidecar says it all
    assert found["given"] == {"prenorm": False, "d_state": 64, "length": 64}
    assert len(found["layers"]) == LAYERS
    for index, layer in enumerate(found["layers"]):
        assert layer["name"] == f"s4_layers.{index}"
        assert layer["kind"] == "s4d"
        assert layer["channels"] == CHANNELS
        assert layer["state_size"] == 64
        assert layer["real_states"] == 64 * CHANNELS
        assert 0.9 < layer["largest_pole"] < 1


def test_inspect_tells_what_it_assumed(folder: Path) -> None:
    found = call(folder, "inspect", "model.pt", "--json")
    assert json.loads(found.stdout)["assumed"] == {"prenorm": False}
    assert "prenorm=False" in found.stderr
    found = call(folder, "inspect", "model.pt", "--json", "--set", "prenorm=true")
    assert json.loads(found.stdout)["given"] == {"prenorm": True}
    assert found.stderr == ""


def test_inspect_a_compressed_model(built: Path) -> None:
    found = answer(built, "inspect", "model-s16.safetensors")
    assert [layer["state_size"] for layer in found["layers"]] == [16] * LAYERS
    assert [layer["real_states"] for layer in found["layers"]] == [16 * CHANNELS] * LAYERS
    assert found["source"] == "model.pt"
    assert [entry["did"] for entry in found["history"]] == ["compress"]


@pytest.mark.parametrize(("state", "after"), [("64", 64), ("16", 16)])
def test_compress(tmp_path: Path, built: Path, state: str, after: int) -> None:
    found = answer(tmp_path, "compress", str(built / "model.pt"), "--state", state)
    assert found["output"] == f"model-s{state}.safetensors"
    assert (tmp_path / found["output"]).stat().st_size == found["bytes"]
    assert found["state_size"] == {"before": 64, "after": after}
    states = {"before": 64 * CHANNELS * LAYERS, "after": after * CHANNELS * LAYERS}
    assert found["real_states"] == states
    before = answer(built, "inspect", "model.pt")["parameters"]
    now = answer(tmp_path, "inspect", found["output"])["parameters"]
    assert found["parameters"] == {"before": before, "after": now}
    assert 0 < found["seconds"] < 60
    assert len(found["layers"]) == LAYERS
    for layer in found["layers"]:
        assert layer["real_states_before"] == 64 * CHANNELS
        assert layer["real_states_after"] == after * CHANNELS
        if after == 64:
            assert layer["error"] == layer["error_bound"] == 0
        else:
            assert 0 < layer["error"] <= layer["error_bound"]


def test_compress_by_a_method_without_a_bound(tmp_path: Path, built: Path) -> None:
    found = answer(
        tmp_path, "compress", str(built / "model.pt"), "--state", "16", "--method",
        "complex-balanced",
    )  # fmt: skip
    assert found["method"] == "complex-balanced"
    for layer in found["layers"]:
        assert layer["error"] > 0
        assert layer["error_bound"] is None or layer["error"] <= layer["error_bound"]


def test_export(tmp_path: Path, built: Path) -> None:
    found = answer(tmp_path, "export", str(built / "model-s16.safetensors"), "--onnx")
    assert found["output"] == "model-s16.onnx"
    assert found["bytes"] == (tmp_path / "model-s16.onnx").stat().st_size
    assert found["mode"] == "step"
    assert found["samples_per_run"] == 1
    assert is_whole(found["nodes"])
    assert 20 < found["nodes"] < 200
    # The systems, the running mean and the number of samples seen.
    assert found["state_floats"] == 16 * CHANNELS * LAYERS + CHANNELS + 1
    assert 0 < found["max_abs_error"] < 1e-3 * found["max_abs_output"]


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_export_c(tmp_path: Path, built: Path) -> None:
    model = str(built / "model-s16.safetensors")
    found = answer(tmp_path, "export", model, "--c", "--compile", "--rate", "4000")
    assert found["output"] == "model-s16.c"
    assert found["header"] == "model-s16.h"
    assert found["library"] == "model-s16.so"
    for key in ("output", "header", "library"):
        assert (tmp_path / found[key]).is_file()
    assert found["bytes"] == (tmp_path / "model-s16.c").stat().st_size
    assert found["mode"] == "c"
    assert found["rate"] == 4000
    # The systems, the running mean and the number of samples seen.
    assert found["state_bytes"] >= 4 * (16 * CHANNELS * LAYERS + CHANNELS + 1)
    assert is_whole(found["weight_bytes"])
    assert found["compiler"]
    assert 0 < found["max_abs_error"] < 1e-5 * found["max_abs_output"]
    assert found["packages"] == {}


def test_export_packages(tmp_path: Path, built: Path) -> None:
    model = str(built / "model-s16.safetensors")
    asked = ("--package", "none", "--package", "zephyr", "--package", "cmake", "--package", "cmake")
    found = answer(tmp_path, "export", model, "--c", *asked)
    assert found["packages"] == {"zephyr": "model_s16-zephyr", "cmake": "model_s16-cmake"}
    for folder in found["packages"].values():
        assert (tmp_path / folder / "src" / "model_s16.c").is_file()
    assert (tmp_path / found["output"]).is_file()


def test_bench(built: Path) -> None:
    found = answer(built, "bench", "model-s16.onnx", "--duration", "0.1", "--threads", "1")
    assert isinstance(found["device"]["cpu"], str)
    assert is_whole(found["device"]["cores"])
    (row,) = found["results"]
    assert (row["model"], row["mode"], row["samples_per_run"]) == ("model-s16.onnx", "step", 1)
    assert row["threads"] == 1
    latency = row["latency_us"]
    assert 0 < latency["min"] <= latency["p50"] <= latency["p90"] <= latency["p99"]
    assert row["us_per_sample"] == latency["p50"]
    assert row["model_bytes"] == (built / "model-s16.onnx").stat().st_size
    assert row["state_bytes"] == 4 * (16 * CHANNELS * LAYERS + CHANNELS + 1)
    assert row["peak_rss_bytes"] > row["model_bytes"]


def test_eval_is_the_same_in_every_form(built: Path) -> None:
    values = {}
    for name in (
        "model.pt", "model-s64.safetensors", "model.onnx", "model-s64.onnx",
        "model-s16.safetensors", "model-s16.onnx",
    ):  # fmt: skip
        found = answer(built, "eval", name, "--data", "digits.npz")
        assert found["metric"] == "accuracy"
        assert found["samples"] == 150
        assert found["value"] * 150 == pytest.approx(round(found["value"] * 150))
        values[name] = found["value"]
    whole = values["model.pt"]
    assert 0.98 <= whole <= 1
    assert values["model-s64.safetensors"] == values["model.onnx"] == values["model-s64.onnx"]
    assert values["model-s64.safetensors"] == whole
    assert values["model-s16.safetensors"] == values["model-s16.onnx"]
    assert whole - 0.05 < values["model-s16.onnx"] <= 1


@pytest.mark.parametrize("arguments", [("export", "--onnx"), ("bench", "--duration", "0.05")])
def test_notes_stay_out_of_stdout(tmp_path: Path, built: Path, arguments: tuple[str, ...]) -> None:
    for name in ("model-s16.safetensors", "model-s16.onnx"):
        shutil.copy(built / name, tmp_path)
    found = call(tmp_path, *arguments, "--json", "-v")
    assert json.loads(found.stdout)
    assert "Taking model-s16." in found.stderr


def test_errors_stay_out_of_stdout(tmp_path: Path) -> None:
    found = call(tmp_path, "inspect", "nothing.pt", "--json")
    assert (found.status, found.stdout) == (1, "")
    assert found.stderr == "Error: nothing.pt does not exist\n"
