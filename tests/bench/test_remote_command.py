"""``s4edge bench --host`` from end to end: the real command there, over sshd on loopback."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_sshd import HOST, Sshd, running_sshd
from models_by_hand import random_model
from small_graph import WriteGraph

import s4edge
from s4edge.bench.file import read_bench
from s4edge.bench.remote import RemoteBench

FAR = f"{shlex.quote(sys.executable)} -m s4edge"


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as found:
        yield found
        assert found.left_behind == []


def command(sshd: Sshd, *arguments: str | Path, key: str = "plain") -> list[str]:
    options = [word for each in sshd.options(key) for word in ("--ssh-option", each)]
    return [
        *(sys.executable, "-m", "s4edge", "bench", *map(str, arguments)),
        *("--host", HOST, "--remote-command", FAR, *options),
    ]


def call(sshd: Sshd, *arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(sshd, *arguments, **more), capture_output=True, text=True, check=False, timeout=120
    )


def test_bench_there(
    sshd: Sshd, write_graph: WriteGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_graph("it's one.onnx")
    (tmp_path / "b").mkdir()
    write_graph("b/two.onnx")
    done = call(
        sshd, "it's one.onnx", "b/two.onnx", "--duration", "0.3", "--rate", "1000", "--threads",
        "1", "--json", "-o", "out.json", "--html", "out.html", "--markdown", "out.md",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer == read_bench("out.json")
    assert [row["model"] for row in answer["results"]] == ["it's one.onnx", "b/two.onnx"]
    assert {turn["model"] for turn in answer["timeline"]} == {"it's one.onnx", "b/two.onnx"}
    for row in answer["results"]:
        assert row["runs"] > 0
        assert row["rate_hz"] == 1000
    assert answer["results"][1]["ratio"]["value"] > 0
    # What the far side warns of is told once, and no path of its folder is left in it.
    for warning in answer["warnings"]:
        assert done.stderr.count(f"Warning: {warning}") == 1
    assert "s4edge-bench" not in done.stdout + done.stderr
    assert "it's one.onnx" in (tmp_path / "out.md").read_text()
    assert "it&#x27;s one.onnx" in (tmp_path / "out.html").read_text()


def test_far_progress_is_real(sshd: Sshd, write_graph: WriteGraph) -> None:
    steps: list[float] = []
    notes: list[str] = []
    with RemoteBench(
        HOST, [write_graph()], ["--duration", "0.1"], FAR, sshd.options(), notes.append
    ) as bench:
        bench.answer(steps.append)
    assert len(steps) > 2
    assert steps == sorted(steps)
    assert steps[-1] == 1
    assert not [line for line in notes if "progress" in line]


def test_ctrl_c_keeps_what_was_found_there(sshd: Sshd, write_graph: WriteGraph) -> None:
    graph = write_graph("it's.onnx")
    with subprocess.Popen(
        command(sshd, graph, "--duration", "12", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # The far progress comes out of this end's pipe, too.
        env={**os.environ, "S4EDGE_PROGRESS": "lines"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("s4edge-progress ") and float(line.split()[1]) > 0.4:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert f"Interrupted; waiting for what {HOST} has measured so far." in err
    assert process.returncode == 130
    answer = json.loads(out)
    assert answer["interrupted"]
    assert answer["results"][0]["model"] == str(graph)
    assert sshd.left_behind == []


def test_faults_are_one_line(sshd: Sshd, write_graph: WriteGraph, tmp_path: Path) -> None:
    graph = write_graph()
    (tmp_path / "damaged.onnx").write_bytes(graph.read_bytes()[:50])
    for arguments, key, said in (
        ([tmp_path / "gone.onnx"], "plain", "gone.onnx does not exist"),
        ([tmp_path / "damaged.onnx"], "plain", "damaged.onnx"),
        ([graph, "-o", tmp_path / "no" / "out.json"], "plain", "does not exist"),
        ([graph], "unknown", "does not let you in"),
        ([graph, "--remote-command", "no-such-s4edge"], "plain", "there is no s4edge on"),
        ([graph, "--ssh-option", "NoSuchOption=1"], "plain", "cannot reach"),
    ):
        # Where an option is given twice, the last one counts.
        words = command(sshd, key=key)
        done = subprocess.run(
            [*words, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 1, done
        (line,) = done.stderr.splitlines()
        assert line.startswith("Error: ")
        assert said in line
        assert done.stdout == ""


# C


@pytest.fixture
def c_file(tmp_path: Path) -> Path:
    """With its header and a library beside it; a shell and C take its name for several words."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here")
    path = tmp_path / "a model-1.2.c"
    return s4edge.export_c(random_model(), path, compiled=True, compiler="cc -O0").output


def bench_c(
    sshd: Sshd, environment: str, *arguments: str | Path
) -> subprocess.CompletedProcess[str]:
    """As `call`; the far s4edge has other variables of the environment."""
    far = ["--remote-command", f"/usr/bin/env {environment} {FAR}"]
    return subprocess.run(
        [*command(sshd, *arguments), *far], capture_output=True, text=True, check=False, timeout=120
    )


def test_c_is_compiled_there(sshd: Sshd, c_file: Path, tmp_path: Path) -> None:
    library = c_file.with_suffix(".so")
    cache = tmp_path / "cache"
    done = bench_c(
        sshd, f"XDG_CACHE_HOME={shlex.quote(str(cache))} CC='cc -O1'", c_file, library,
        "--duration", "0.2", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert [row["model"] for row in results] == [str(c_file), str(library)]
    assert all(row["mode"] == "step" and row["us_per_sample"] > 0 for row in results)
    assert results[0]["model_bytes"] == c_file.stat().st_size
    # It was compiled by the far side, and stays in its cache.
    assert len(list((cache / "s4edge").glob("*.so"))) == 1
    assert sshd.left_behind == []


def test_faults_of_c_are_one_line(sshd: Sshd, c_file: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    cache = f"XDG_CACHE_HOME={shlex.quote(str(empty))}"
    changed = tmp_path / "changed.c"
    changed.write_text(f"{c_file.read_text()}#error changed\n")
    shutil.copy(c_file.with_suffix(".h"), changed.with_suffix(".h"))
    alone = tmp_path / "alone.c"
    shutil.copy(c_file, alone)
    foreign = tmp_path / "foreign.so"
    foreign.write_bytes(b"\x7fELF and more than twenty bytes")
    for environment, path, said in (
        (f"{cache} PATH={shlex.quote(str(empty))}", c_file, "no C compiler is here"),
        (cache, changed, f"cannot compile {changed.name}: "),
        (cache, alone, "alone.c needs its header alone.h beside it, which is not there"),
        (cache, foreign, "foreign.so is no library of s4edge"),
    ):
        done = bench_c(sshd, environment, path)
        assert (done.returncode, done.stdout) == (1, ""), done
        (line,) = done.stderr.splitlines()
        assert line.startswith("Error: ")
        assert said in line
        assert sshd.left_behind == []
