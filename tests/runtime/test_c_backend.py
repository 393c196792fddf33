"""Models as C run as graphs do: streamed, evaluated, measured; and what is no such file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models_by_hand import random_model

import s4edge
from s4edge import S4EdgeError
from s4edge.runtime import Stream, newest_graph, open_graph, predict, read_info

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here (apt install gcc)")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``m.onnx``, ``m.c``, ``m.h`` and ``m.so`` of one model."""
    folder = tmp_path_factory.mktemp("built")
    model = random_model()
    s4edge.export_onnx(model, folder / "m.onnx", rate=8000)
    s4edge.export_c(model, folder / "m.c", compiler="gcc -O1", compiled=True, rate=8000)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CC", "gcc -O0")


def samples(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", ["m.so", "m.c"])
def test_streams_as_the_graph_does(built: Path, name: str) -> None:
    graph, c = open_graph(built / "m.onnx"), open_graph(built / name)
    assert c.info.path == built / name
    for key in ("mode", "d_input", "d_output", "tokens", "pooling", "source", "rate", "version"):
        assert getattr(c.info, key) == getattr(graph.info, key)
    assert c.runtime.startswith("C (gcc ")
    x = samples(3, 40, 2)
    one, other = Stream(graph, 3), Stream(c, 3)
    for t in range(10):
        np.testing.assert_allclose(other.step(x[:, t]), one.step(x[:, t]), atol=1e-5)
    np.testing.assert_allclose(other.extend(x[:, 10:]), one.extend(x[:, 10:]), atol=1e-5)
    saved = other.state
    after = other.step(x[:, 0]).copy()
    other.restore(saved)
    assert np.array_equal(other.step(x[:, 0]), after)
    other.reset()
    np.testing.assert_allclose(other.extend(x[:, :5]), Stream(graph, 3).extend(x[:, :5]), atol=1e-5)
    np.testing.assert_allclose(predict(c, x), predict(graph, x), atol=1e-5)


def test_a_run_can_be_undone(built: Path) -> None:
    running = open_graph(built / "m.so").start(2)
    running.x[...] = samples(2, 2)
    running.run()
    state, y = running.state.copy(), running.y.copy()
    running.run()
    running.undo()
    assert np.array_equal(running.state, state)
    assert not np.array_equal(running.y, y)


@pytest.mark.parametrize("name", ["m.so", "m.onnx"])
def test_after_a_block_the_latest_output_is_its_last(built: Path, name: str) -> None:
    running = open_graph(built / name).start(2)
    y = running.extend(samples(2, 7, 2))
    assert np.array_equal(running.y, y[:, -1])
    assert not np.array_equal(running.y, y[:, -2])


def test_whole_sequences(built: Path) -> None:
    x = samples(2, 30, 2)
    got = open_graph(built / "m.so").run(x)
    stream = Stream(open_graph(built / "m.onnx"), 2)
    np.testing.assert_allclose(got, stream.extend(x), atol=1e-5)


def test_it_times_itself(built: Path) -> None:
    stream = Stream(open_graph(built / "m.so"))
    x = samples(1, 20, 2)
    nanoseconds = stream.timed(x)
    assert nanoseconds is not None
    assert nanoseconds.shape == (20,)
    assert (nanoseconds > 0).all()
    assert np.median(nanoseconds) < 1e6
    after = stream.step(x[:, 0]).copy()
    other = Stream(open_graph(built / "m.so"))
    other.extend(x)
    np.testing.assert_allclose(after, other.step(x[:, 0]), atol=1e-5)  # the state moved on
    assert Stream(open_graph(built / "m.onnx")).timed(x) is None


def test_a_c_file_is_compiled_once(built: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "s4edge"
    open_graph(built / "m.c")
    (kept,) = cache.glob("*.so")
    made = kept.stat().st_mtime_ns
    open_graph(built / "m.c")
    assert [each.stat().st_mtime_ns for each in cache.glob("*.so")] == [made]
    # Another file under the same name is another model.
    for name in ("m.c", "m.h"):
        shutil.copy(built / name, tmp_path)
    text = (tmp_path / "m.c").read_text().replace("Largest difference", "largest difference")
    (tmp_path / "m.c").write_text(text)
    open_graph(tmp_path / "m.c")
    assert len(list(cache.glob("*.so"))) == 2


def test_without_a_cache(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    stream = Stream(open_graph(built / "m.c"))
    assert stream.step(samples(2)).shape == (1, 3)


def test_the_newest(built: Path, tmp_path: Path) -> None:
    for name in ("m.onnx", "m.so", "m.c"):
        shutil.copy(built / name, tmp_path)
    os.utime(tmp_path / "m.onnx", (1e9, 1e9))
    assert newest_graph(tmp_path) == tmp_path / "m.so"
    os.utime(tmp_path / "m.so", (1e8, 1e8))
    assert newest_graph(tmp_path) == tmp_path / "m.onnx"
    (tmp_path / "other.so").write_bytes(b"\x7fELF" + bytes(100))
    assert newest_graph(tmp_path) == tmp_path / "m.onnx"


def test_files_that_are_none(built: Path, tmp_path: Path) -> None:
    good = (built / "m.so").read_bytes()
    text = (built / "m.c").read_text()
    foreign = tmp_path / "foreign.c"
    foreign.write_text("int f(void) { return 0; }\n")
    subprocess.run(["gcc", "-shared", "-fPIC", foreign, "-o", tmp_path / "foreign.so"], check=True)
    cases: dict[str, tuple[bytes | None, str]] = {
        "missing.so": (None, "does not exist"),
        "missing.c": (None, "does not exist"),
        "empty.so": (b"", "is empty"),
        "text.so": (b"hello", "is no shared library"),
        "cut.so": (good[: len(good) // 2], "is truncated"),
        "other.so": (
            good[:18] + b"\x28\x00" + good[20:],
            "is for 32-bit ARM, not for this machine",
        ),
        "strange.so": (good[:18] + b"\x99\x00" + good[20:], "is for another machine"),
        "big.so": (good[:5] + b"\x02" + good[6:18] + b"\x00\x15" + good[20:], "another machine"),
        "newer.so": (good.replace(b'{"format": 1', b'{"format": 9'), "has format 9, newer than"),
        "damaged.so": (good.replace(b'"d_input"', b'"d_impux"'), "lacks 'd_input'"),
        "foreign.c": (None, "was not written by s4edge"),
        "foreign.so": (None, "is no library of s4edge"),
        "bytes.c": (b"\xff\xfe", "was not written by s4edge"),
        "alone.c": (text.encode(), "needs its header alone.h"),
        "wrong.c": (text.replace("void m_init(", "void m init(").encode(), "cannot compile"),
    }
    shutil.copy(built / "m.h", tmp_path / "wrong.h")
    shutil.copy(built / "m.h", tmp_path / "m.h")
    for name, (content, says) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(S4EdgeError) as refused:
            open_graph(tmp_path / name)
        assert says in str(refused.value), name
        assert "\n" not in str(refused.value)
    (tmp_path / "m.so").mkdir()
    with pytest.raises(S4EdgeError, match="is a folder"):
        open_graph(tmp_path / "m.so")


def test_a_library_cut_off_anywhere(built: Path, tmp_path: Path) -> None:
    good = (built / "m.so").read_bytes()
    refused = 0
    for tenths in range(1, 100, 3):
        path = tmp_path / f"{tenths}.so"
        path.write_bytes(good[: len(good) * tenths // 100])
        try:
            # At the end stands what only a linker reads.
            assert open_graph(path).library.selftest() == 0  # type: ignore[attr-defined]
        except S4EdgeError as error:
            refused += 1
            assert "truncated" in str(error) or "no library" in str(error)  # noqa: PT017
    assert refused > 20


def test_a_library_for_another_machine_says_what_it_is(built: Path, tmp_path: Path) -> None:
    if shutil.which("aarch64-linux-gnu-gcc") is None:
        pytest.skip("no compiler for aarch64 here (apt install gcc-aarch64-linux-gnu)")
    exported = s4edge.export_c(
        random_model(), tmp_path / "m.c", compiler="aarch64-linux-gnu-gcc", compiled=True
    )
    assert exported.library is not None
    assert exported.compiler == "gcc -O0"  # what the C was checked with
    assert read_info(exported.library).d_input == 2
    with pytest.raises(S4EdgeError, match="is for 64-bit ARM, not for this machine"):
        open_graph(exported.library)


def test_a_processor_that_lacks_instructions(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "avx" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no AVX")
    from s4edge.runtime.backends.c import library as c_library

    monkeypatch.setattr(c_library, "_PROCESSOR", Path(__file__))
    open_graph(built / "m.so")  # where nothing is told, it is tried
    (built / "cpuinfo").write_text("flags\t: fpu sse sse2\n")
    monkeypatch.setattr(c_library, "_PROCESSOR", built / "cpuinfo")
    with pytest.raises(
        S4EdgeError, match=r"was compiled for a processor with avx.* which this one"
    ):
        open_graph(built / "m.so")


@pytest.mark.parametrize("name", ["m.so", "m.c"])
def test_commands(built: Path, tmp_path: Path, name: str) -> None:
    x = samples(6, 30, 2)
    y = predict(open_graph(built / "m.onnx"), x).argmax(1)
    np.savez(tmp_path / "data.npz", x=x, y=y)

    def call(*arguments: str) -> Any:
        command = [sys.executable, "-m", "s4edge", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        return done.stdout

    path = str(built / name)
    assert json.loads(call("eval", path, "--data", "data.npz", "--json"))["value"] == 1
    answer = json.loads(call("bench", path, "--duration", "0.1", "--json"))
    (row,) = answer["results"]
    assert row["model"] == path
    assert row["python_us"] > 0
    assert 0 < row["us_per_sample"] < 1e3
    assert answer["runtime"].startswith("C (")
    np.save(tmp_path / "x.npy", x[0])
    (line,) = call("run", path, "x.npy").splitlines()
    assert json.loads(line)["sample"] == 30
