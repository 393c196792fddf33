"""The three literal calls, one after another in one folder, and which file each takes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from s4edge_command import call, call_process, snapshot
from safetensors.numpy import save_file

import s4edge


def test_one_after_another(folder: Path) -> None:
    """As processes of their own: an empty folder with model.pt and no sidecar."""
    compressed = call_process(folder, "compress", "model.pt", "--state", "16")
    assert compressed.status == 0
    assert "model-s16.safetensors" in compressed.stdout
    assert "Next: s4edge export --onnx" in compressed.stdout
    assert "prenorm=False" in compressed.stderr  # the tensors do not tell

    exported = call_process(folder, "export", "--onnx")
    assert exported.status == 0
    assert "Taking model-s16.safetensors" in exported.stderr
    assert "model-s16.onnx" in exported.stdout
    assert "Next: s4edge bench" in exported.stdout

    measured = call_process(folder, "bench", "--duration", "0.3")
    assert measured.status == 0
    assert "Taking model-s16.onnx" in measured.stderr
    assert "model-s16.onnx" in measured.stdout

    assert set(snapshot(folder)) == {"model.pt", "model-s16.safetensors", "model-s16.onnx"}


def test_what_they_wrote_can_be_read(built: Path) -> None:
    model = s4edge.load(built / "model-s16.safetensors")
    assert [block.systems.config.state_size for block in model.blocks] == [16, 16, 16]
    onnx.checker.check_model(built / "model-s16.onnx", full_check=True)


def test_a_folder_elsewhere_is_not_where_the_default_goes(tmp_path: Path, built: Path) -> None:
    """The default name is here, not beside MODEL."""
    before = snapshot(built)
    assert call(tmp_path, "compress", str(built / "model.pt"), "--state", "64").status == 0
    assert call(tmp_path, "export", "--onnx").status == 0
    assert set(snapshot(tmp_path)) == {"model-s64.safetensors", "model-s64.onnx"}
    assert snapshot(built) == before


def test_output_goes_where_it_is_told(tmp_path: Path, built: Path) -> None:
    (tmp_path / "sub").mkdir()
    model, name = str(built / "model.pt"), "sub/a b.safetensors"
    assert call(tmp_path, "compress", model, "--state", "64", "-o", name).status == 0
    assert call(tmp_path, "export", name, "--onnx", "-o", "sub/g.onnx").status == 0
    assert set(snapshot(tmp_path)) == {"sub", name, "sub/g.onnx"}


def test_compressed_model_under_any_name(tmp_path: Path, built: Path) -> None:
    """What a file is decides its contents, not its suffix."""
    shutil.copy(built / "model-s16.safetensors", tmp_path / "small.pt")
    assert json.loads(call(tmp_path, "inspect", "small.pt", "--json").stdout)["real_states"] == 2304


def _touch(path: Path, seconds: float) -> None:
    os.utime(path, (2_000_000_000 + seconds, 2_000_000_000 + seconds))


@pytest.fixture
def several(tmp_path: Path, built: Path) -> Path:
    """Old and new models and graphs, names in another order than ages."""
    for age, name in enumerate(("c", "a", "b")):
        for source, suffix in (("model-s64", "safetensors"), ("model-s16", "onnx")):
            path = tmp_path / f"{name}.{suffix}"
            shutil.copy(built / f"{source}.{suffix}", path)
            _touch(path, -60 * age)
    return tmp_path


def test_newest_is_taken(several: Path) -> None:
    assert "Taking c.safetensors" in call(several, "export", "--onnx", "-o", "o.onnx").stderr
    _touch(several / "o.onnx", -600)
    assert "Taking c.onnx" in call(several, "bench", "--duration", "0.05").stderr
    _touch(several / "b.safetensors", 1)
    _touch(several / "b.onnx", 1)
    assert "Taking b.safetensors" in call(several, "export", "--onnx", "-o", "o.onnx").stderr
    _touch(several / "o.onnx", -600)
    assert "Taking b.onnx" in call(several, "bench", "--duration", "0.05").stderr


def test_files_of_others_are_passed_over(several: Path) -> None:
    """Foreign, damaged or dangling: newer than ours, and none of them taken."""
    save_file({"w": np.zeros(2, np.float32)}, several / "foreign.safetensors")
    (several / "text.safetensors").write_text("hello")
    (several / "folder.safetensors").mkdir()
    (several / "dangling.safetensors").symlink_to("nowhere")
    identity = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "foreign",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(
        helper.make_model(identity, opset_imports=opset, ir_version=9), several / "foreign.onnx"
    )
    (several / "text.onnx").write_text("hello")
    (several / "folder.onnx").mkdir()
    (several / "dangling.onnx").symlink_to("nowhere")
    for path in several.iterdir():
        if path.stem in ("foreign", "text", "folder"):
            _touch(path, 100)
    assert "Taking c.safetensors" in call(several, "export", "--onnx", "-o", "o.onnx").stderr
    _touch(several / "o.onnx", -600)
    assert "Taking c.onnx" in call(several, "bench", "--duration", "0.05").stderr


def test_a_named_file_is_taken_without_a_word(built: Path) -> None:
    graph = str(built / "model-s16.onnx")
    said = call(built, "bench", graph, "--duration", "0.05").stderr
    # What it has to say about the machine is another matter.
    assert all(line.startswith("Warning: ") for line in said.splitlines())


def test_several_graphs_side_by_side(built: Path) -> None:
    found = call(built, "bench", "model-s16.onnx", "model-s64.onnx", "--duration", "0.05", "--json")
    names = [row["model"] for row in json.loads(found.stdout)["results"]]
    assert names == ["model-s16.onnx", "model-s64.onnx"]
