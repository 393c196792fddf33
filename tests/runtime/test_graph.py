from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from small_graph import DESCRIPTION, WriteGraph

from s4edge.errors import S4EdgeError
from s4edge.runtime import newest_graph, open_graph, read_info
from s4edge.runtime.description import Description, read_description

FIELDS = dataclasses.fields(Description)


def test_info_is_what_the_file_says(write_graph: WriteGraph) -> None:
    path = write_graph(length=50, state_size=2.5, source="a model", nodes=6)
    info = open_graph(path).info
    assert info == read_info(path)
    found = dataclasses.asdict(info)
    assert found.pop("path") == path
    assert found.pop("model_bytes") == path.stat().st_size
    assert found.pop("extra") == {"nodes": 6}
    changed = {"length": 50, "state_size": 2.5, "source": "a model"}
    assert found == DESCRIPTION | changed | {"rate": None, "real_states": None, "period": 1}
    assert info.state_bytes == 8


def test_what_is_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.file").write_bytes(b"five.")
    for changes in ({}, {"state_size": 2.5, "rate": 4000, "real_states": 7}, {"tokens": 9}):
        written = Description(**{**DESCRIPTION, **changes})
        found = read_description(tmp_path / "a.file", written.to_json(name="x"), "export it")
        assert Description(**{f.name: getattr(found, f.name) for f in FIELDS}) == written
        assert (found.model_bytes, found.extra) == (5, {"name": "x"})


def test_the_rate_is_optional(write_graph: WriteGraph) -> None:
    assert read_info(write_graph(rate=...)).rate is None
    assert read_info(write_graph(rate=None)).rate is None
    info = read_info(write_graph(rate=4000.5))
    assert (info.rate, info.extra) == (4000.5, {})
    for wrong in (0, -1, "4000", True, float("nan")):
        with pytest.raises(S4EdgeError, match=r"'rate' = .*, not a positive number or null"):
            read_info(write_graph(rate=wrong))


def test_reads_the_metadata_that_onnx_reads(write_graph: WriteGraph) -> None:
    path = write_graph()
    model = onnx.load(path)
    # Large fields and others' metadata on either side of ours.
    model.doc_string = "doc" * 100_000
    onnx.helper.set_model_props(
        model, {"ä": "ö" * 70_000, "s4edge": model.metadata_props[0].value, "empty": ""}
    )
    onnx.save(model, path)
    assert read_info(path).source == "by hand"


def test_session_obeys_threads(write_graph: WriteGraph) -> None:
    options = open_graph(write_graph(), threads=2).session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    with pytest.raises(S4EdgeError, match="threads must be at least 1"):
        open_graph(write_graph(), threads=0)


def one_line(call: Any, *arguments: Any) -> str:
    with pytest.raises(S4EdgeError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


def test_bad_files_are_told_apart(tmp_path: Path, write_graph: WriteGraph) -> None:
    path = tmp_path / "bad.onnx"
    assert "bad.onnx does not exist" in one_line(open_graph, path)
    assert "is a folder" in one_line(open_graph, tmp_path)
    path.touch()
    assert "is empty" in one_line(open_graph, path)
    whole = write_graph().read_bytes()
    graph_only = write_graph("foreign.onnx", text=None).read_bytes()
    # Cut anywhere it is refused; cut between its parts it is a graph without a description.
    for end in range(1, len(whole)):
        path.write_bytes(whole[:end])
        message = one_line(read_info, path)
        assert "it is truncated or no ONNX file" in message or whole[:end] == graph_only, end
    for other in (b"hello, world\n", b"PK\x03\x04" + bytes(100), bytes(100), b"\xff" * 100):
        path.write_bytes(other)
        assert "it is truncated or no ONNX file" in one_line(open_graph, path)


def test_of_an_error_of_several_lines_the_first_is_told(
    write_graph: WriteGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise RuntimeError("Load model from m.onnx failed:no such operator\nat 0x7f\nat main\n")

    path = write_graph()
    monkeypatch.setattr("onnxruntime.InferenceSession", fail)
    with pytest.raises(S4EdgeError, match=r"cannot load .* \(no such operator\); it is"):
        open_graph(path)


def test_damage_inside_the_graph_is_one_line(write_graph: WriteGraph) -> None:
    path = write_graph()
    path.write_bytes(path.read_bytes().replace(b"MatMul", b"MotMul"))
    message = one_line(open_graph, path)
    assert message.startswith("onnxruntime ")
    assert f"cannot load {path}" in message


def test_graphs_of_others_are_refused(write_graph: WriteGraph) -> None:
    message = one_line(open_graph, write_graph(text=None))
    assert "was not written by s4edge" in message
    assert "s4edge export MODEL --onnx" in message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text": "{"}, "is not a JSON object"),
        ({"text": "[1]"}, "is not a JSON object"),
        ({"format": ...}, "lacks 'format'"),
        ({"format": 2}, "has format 2, newer than this s4edge knows (1); upgrade"),
        ({"format": 2, "mode": ...}, "newer than this s4edge knows"),
        ({"format": 0}, "has 'format' = 0"),
        ({"format": True}, "has 'format' = True"),
        ({"mode": 3}, "has 'mode' = 3, not a string"),
        ({"mode": "chunk", "samples_per_run": 16}, "not x (batch, 16, 3), state (batch, 2)"),
        ({"mode": "chunk", "samples_per_run": None}, "mode 'chunk' with None samples per run"),
        ({"samples_per_run": 2}, "with 2 samples per run"),
        ({"length": 0}, "has 'length' = 0, not a positive integer or null"),
        ({"length": ...}, "lacks 'length'"),
        ({"state_size": "8"}, "not a number or null"),
        ({"d_input": "3"}, "has 'd_input' = '3', not a positive integer"),
        ({"d_input": 5}, "its inputs are x tensor(float)['batch', 3], state"),
        ({"d_output": 5}, "its outputs are y"),
        ({"state_floats": 3}, "its inputs are x"),
        ({"output_name": "logits"}, "its outputs are logits"),
    ],
)
def test_bad_descriptions_are_one_line(
    write_graph: WriteGraph, changes: dict[str, Any], words: str
) -> None:
    path = write_graph(**changes)
    message = one_line(open_graph, path)
    assert words in message
    assert str(path) in message


def test_newest_graph_is_the_newest_of_ours(tmp_path: Path, write_graph: WriteGraph) -> None:
    assert newest_graph(tmp_path) is None
    files = {
        "old.onnx": write_graph("old.onnx"),
        "new.onnx": write_graph("new.onnx"),
        "foreign.onnx": write_graph("foreign.onnx", text=None),
        "broken.onnx": tmp_path / "broken.onnx",
        "new.onnx.tmp": write_graph("new.onnx.tmp"),
    }
    files["broken.onnx"].write_bytes(b"no graph")
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "dangling.onnx").symlink_to(tmp_path / "nothing")
    for age, path in enumerate(files.values()):
        os.utime(path, ns=(age, age))
    assert newest_graph(tmp_path) == files["new.onnx"]
    # One nanosecond decides.
    os.utime(files["old.onnx"], ns=(2, 2))
    assert newest_graph(tmp_path) == files["old.onnx"]
    assert newest_graph(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("module", "needs"),
    [("s4edge.runtime", {"numpy"}), ("s4edge.runtime.backends.onnx", {"numpy", "onnxruntime"})],
)
def test_import_brings_nothing_of_the_toolchain(module: str, needs: set[str]) -> None:
    found = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {module}"],
        capture_output=True,
        text=True,
        check=True,
    )
    modules = {line.rpartition("|")[2].strip() for line in found.stderr.splitlines()}
    packages = {module.partition(".")[0] for module in modules}
    assert packages & {"numpy", "onnxruntime"} == needs
    assert not packages & {"torch", "scipy", "onnx", "onnxscript", "safetensors", "rich", "click"}
