from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console
from small_graph import WriteGraph

from s4edge.errors import S4EdgeError
from s4edge.runtime import BenchResult, GraphResult, Stream, bench
from s4edge.runtime.report import bench_table
from s4edge.runtime.worker import Worker

DESIGN_KEYS = {
    *("model", "mode", "samples_per_run", "threads", "latency_us", "us_per_sample"),
    *("peak_rss_bytes", "model_bytes", "state_bytes"),
}


def check(row: GraphResult, path: Path) -> None:
    latency = row.latency_us
    assert set(latency) == {"min", "p50", "p90", "p99"}
    assert 0 < latency["min"] <= latency["p50"] <= latency["p90"] <= latency["p99"]
    assert row.us_per_sample == latency["p50"] / row.samples_per_run
    assert 0 < row.samples_per_second <= 1e6 / latency["min"]
    assert row.runs >= 5
    assert row.peak_rss_bytes > row.baseline_rss_bytes > 10e6
    assert row.peak_rss_bytes - row.baseline_rss_bytes < 50e6
    assert row.model == str(path)
    assert row.model_bytes == path.stat().st_size
    assert row.state_bytes == 8
    assert row.load_seconds > 0


def test_measures_several_models(write_graph: WriteGraph) -> None:
    paths = [write_graph("a.onnx"), write_graph("b.onnx", length=7)]
    fractions: list[float] = []
    result = bench(paths, threads=1, duration=0.3, progress=fractions.append)
    for row, path in zip(result.results, paths, strict=True):
        check(row, path)
    assert result.runtime.startswith("onnxruntime ")
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1

    answer = json.loads(json.dumps(result.to_json()))
    assert set(answer) == {"device", "results", "runtime", "threads"}
    for row in answer["results"]:
        assert set(row) >= DESIGN_KEYS
        assert set(row) >= {"runs", "samples_per_second", "baseline_rss_bytes", "load_seconds"}
    assert answer["device"]["onnxruntime"] in answer["runtime"]


def test_sequences_of_a_fixed_length_start_at_zero(
    write_graph: WriteGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(Stream, "reset", lambda _: calls.append("reset"))
    monkeypatch.setattr(Stream, "step", lambda _, x: calls.append("step"))
    worker = Worker(write_graph(length=3), threads=1)
    # Through warming up and rounds, which end anywhere in a sequence.
    runs = sum(worker.answer(name, 1e-6)["runs"] for name in ("warm", "run", "run", "run"))
    assert calls.count("step") == runs >= 4
    sequence = ["reset", "step", "step", "step"]
    assert calls == (sequence * runs)[: len(calls)]


def test_measured_memory_does_not_grow_with_duration(write_graph: WriteGraph) -> None:
    path = write_graph()
    short, long = (bench([path], duration=d).results[0] for d in (0.05, 1.5))
    assert long.runs > 5 * short.runs
    assert abs(long.peak_rss_bytes - short.peak_rss_bytes) < 2e6


def test_bad_calls_start_nothing(write_graph: WriteGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", fail)
    good = write_graph()
    with pytest.raises(S4EdgeError, match="no graph to measure"):
        bench([])
    with pytest.raises(S4EdgeError, match="threads must be at least 1"):
        bench([good], threads=0)
    for duration in (0, -1, float("nan"), float("inf")):
        with pytest.raises(S4EdgeError, match="duration must be more than 0"):
            bench([good], duration=duration)
    with pytest.raises(S4EdgeError, match=r"foreign\.onnx was not written by s4edge"):
        bench([good, write_graph("foreign.onnx", text=None)])


def test_graph_that_does_not_load_is_named(write_graph: WriteGraph) -> None:
    path = write_graph("damaged.onnx")
    path.write_bytes(path.read_bytes().replace(b"MatMul", b"MotMul"))
    with pytest.raises(S4EdgeError, match=r"cannot load .*damaged.onnx"):
        bench([path])


def children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(true: Any) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_worker_that_dies_is_reported(write_graph: WriteGraph) -> None:
    path = write_graph("doomed.onnx")

    def kill_workers(_: float) -> None:
        for pid in children(os.getpid()):
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(S4EdgeError, match=r"measuring .*doomed.onnx failed: .* signal 9"):
        bench([path], duration=0.1, progress=kill_workers)


def test_last_line_of_a_dying_worker_is_told(
    write_graph: WriteGraph, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # An interpreter that cannot even start: its own last words are the message.
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    with pytest.raises(S4EdgeError, match=r"model.onnx failed: .*exit status 1: .*\w+") as caught:
        bench([write_graph()])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_interrupted_bench_leaves_no_processes(write_graph: WriteGraph, name: str) -> None:
    paths = [str(write_graph("a.onnx")), str(write_graph("b.onnx"))]
    program = (
        "import sys, time; from s4edge.runtime import bench; "
        "bench(sys.argv[1:], duration=5, progress=lambda done: print(done, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, *paths],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        workers = children(process.pid)
        assert len(workers) == 2
        process.send_signal(signal.Signals[name])
        process.wait(10)
    # Killed workers are gone at once, orphaned ones when their round of 1 s is over.
    wait_until(lambda: not any(alive(pid) for pid in workers))


def test_progress_that_raises_leaves_no_processes(write_graph: WriteGraph) -> None:
    class StopError(Exception):
        pass

    def stop(_: float) -> None:
        raise StopError

    before = set(children(os.getpid()))
    with pytest.raises(StopError):
        bench([write_graph()], progress=stop)
    assert set(children(os.getpid())) <= before


def test_user_files_do_not_shadow_modules(
    write_graph: WriteGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_graph()
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.chdir(tmp_path)
    row = bench([Path("model.onnx")], duration=0.05).results[0]
    assert row.model == "model.onnx"


@pytest.fixture
def result() -> BenchResult:
    row = GraphResult(
        model="out/speech-commands-s16.onnx",
        mode="step",
        samples_per_run=1,
        threads=1,
        latency_us={"min": 87.123, "p50": 94.312, "p90": 1020.5, "p99": 12345.6},
        us_per_sample=94.312,
        samples_per_second=10432.1,
        runs=31_000,
        peak_rss_bytes=61_300_000,
        baseline_rss_bytes=48_000_000,
        model_bytes=1_234_567,
        state_bytes=65_536,
        state_size=16,
        load_seconds=0.0123,
    )
    device = {
        "cpu": "Raspberry Pi 4 Model B Rev 1.4",
        "architecture": "aarch64",
        "cores": 4,
        "memory_bytes": 4_000_000_000,
    }
    small = dataclasses.replace(row, model="small.onnx", state_bytes=8)
    return BenchResult(device, "onnxruntime 1.20.1", 1, [row, small])


@pytest.mark.parametrize("width", [80, 100])
def test_table_is_whole_in_a_pipe(result: BenchResult, width: int) -> None:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        console.print(bench_table(result))
    text = capture.get()
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    numbers = ("87.1", "94.3", "1,020", "12,346", "10,432", "61.3", "1,235", "65.5")
    (row,) = (line for line in text.splitlines() if "87.1" in line and "65.5" in line)
    assert all(number in row.split() for number in numbers)
    # A long name wraps, and is all there.
    assert "speech-commands-s16.onnx" in "".join(
        line.split()[0] for line in text.splitlines()[3:] if line.strip()
    )
    for words in ("small.onnx", "Raspberry Pi 4", "4 cores", "1 thread", "onnxruntime 1.20.1"):
        assert words in " ".join(text.split())


def test_table_shows_paths_where_names_repeat(result: BenchResult) -> None:
    first, second = result.results
    same = dataclasses.replace(
        result, results=[first, dataclasses.replace(second, model="[b]/speech-commands-s16.onnx")]
    )
    console = Console(width=200)
    with console.capture() as capture:
        console.print(bench_table(same))
    assert "out/speech-commands-s16.onnx" in capture.get()
    assert "[b]/speech-commands-s16.onnx" in capture.get()


def test_command_takes_the_newest_graph(
    write_graph: WriteGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s4edge.cli.bench import bench as command

    monkeypatch.chdir(tmp_path)
    nothing = CliRunner().invoke(command, [])
    assert isinstance(nothing.exception, S4EdgeError)
    assert "s4edge export MODEL --onnx" in str(nothing.exception)
    os.utime(write_graph("old.onnx"), (1, 1))
    write_graph("new.onnx")
    found = CliRunner().invoke(command, ["--json", "--duration", "0.05"], catch_exceptions=False)
    assert json.loads(found.stdout)["results"][0]["model"] == "new.onnx"
    assert "Taking new.onnx, the newest graph here." in found.stderr
    assert CliRunner().invoke(command, ["--threads", "0"]).exit_code == 2


def test_command_prints_a_table(write_graph: WriteGraph) -> None:
    from s4edge.cli.bench import bench as command

    paths = [str(write_graph(name)) for name in ("a.onnx", "b.onnx")]
    found = CliRunner().invoke(
        command, [*paths, "--duration", "0.05", "-v"], catch_exceptions=False
    )
    assert "a.onnx" in found.stdout
    assert "b.onnx" in found.stdout
    assert "runs, loaded in" in found.stderr
