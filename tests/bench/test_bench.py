from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fake_machine
import pytest
from click.testing import CliRunner
from small_graph import WriteGraph

from s4edge.bench import GraphResult, bench, measuring
from s4edge.bench.file import parse_bench
from s4edge.bench.machine import pinning
from s4edge.bench.measuring import Measuring
from s4edge.bench.worker import Worker
from s4edge.bench.worker_process import WorkerProcess
from s4edge.errors import S4EdgeError
from s4edge.runtime import Stream, read_info

DESIGN_KEYS = {
    *("model", "mode", "samples_per_run", "threads", "latency_us", "us_per_sample"),
    *("peak_rss_bytes", "model_bytes", "state_bytes"),
}


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that measures, after the one whose memory is looked at: starts are what takes long."""
    monkeypatch.setattr(measuring, "PROCESSES", 1)


def check(row: GraphResult, path: Path) -> None:
    latency = row.latency_us
    ordered = [latency[key] for key in ("min", "p50", "p90", "p99", "p999", "max")]
    assert ordered[0] > 0
    assert ordered == sorted(ordered)
    assert latency["min"] < latency["mean"] < latency["max"]
    assert row.us_per_sample == latency["p50"] / row.samples_per_run
    assert 0 < row.samples_per_second <= 1e6 / latency["min"]
    assert row.runs == sum(row.histogram.counts) == sum(each.runs for each in row.rounds)
    assert row.histogram.edges_us[0] <= latency["min"]
    assert row.histogram.edges_us[-1] >= latency["max"]
    assert len(row.rounds) >= 6
    assert row.peak_rss_bytes > row.baseline_rss_bytes > 10e6
    assert row.peak_rss_bytes - row.baseline_rss_bytes < 50e6
    assert row.model == str(path)
    assert row.model_bytes == path.stat().st_size
    assert row.state_bytes == 8
    start = row.cold_start
    assert 0 < start.load_seconds == row.load_seconds
    assert start.first_run_us > 0
    parts = start.import_seconds + start.load_seconds + start.first_run_us / 1e6
    assert start.first_answer_seconds > 0.5 * parts
    memory = row.memory
    assert memory.peak_rss_bytes == (memory.runtime_bytes + memory.model_bytes + memory.state_bytes)


def test_measures_several_models(write_graph: WriteGraph) -> None:
    paths = [write_graph("a.onnx"), write_graph("b.onnx", length=7)]
    fractions: list[float] = []
    result = bench(paths, threads=1, duration=0.3, progress=fractions.append)
    for row, path in zip(result.results, paths, strict=True):
        check(row, path)
    assert result.runtime.startswith("onnxruntime ")
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1

    answer = parse_bench(json.dumps(result.to_json(), allow_nan=False), "the answer")
    assert answer["interrupted"] is False
    assert {turn["model"] for turn in answer["timeline"]} == {str(path) for path in paths}
    assert len(answer["timeline"]) == sum(len(row["rounds"]) for row in answer["results"])
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
    runs = 1 + sum(worker.answer("run", [1e-6])["latency_ns"]["runs"] for _ in range(4))
    worker.answer("pace", [5, 1.0, 1.0])
    runs += 5
    assert calls.count("step") == runs >= 10
    sequence = ["reset", "step", "step", "step"]
    assert calls == (sequence * runs)[: len(calls)]


def test_memory_does_not_grow_with_duration(write_graph: WriteGraph) -> None:
    """Neither that of the process that measures, nor that of what it tells."""
    with WorkerProcess(read_info(write_graph()), 1, None) as worker:
        peaks, told = [], []
        for seconds in (0.02, 0.02, 2.0):
            answer = worker.ask(f"run {seconds}")
            told.append((answer["latency_ns"]["runs"], len(json.dumps(answer))))
            peaks.append(worker.ask("memory")["peak_rss_bytes"])
    assert told[2][0] > 10 * told[1][0]
    assert told[2][1] < 100_000
    assert peaks[2] - peaks[1] < 1e6


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

    with pytest.raises(
        S4EdgeError, match=r"measuring .*doomed.onnx failed: .*\(signal 9\).*memory"
    ):
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
        "import sys, time; from s4edge.bench import bench; "
        "bench(sys.argv[1:], duration=5, progress=lambda done: print(done, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, *paths],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        wait_until(lambda: len(children(process.pid)) == 2)
        workers = children(process.pid)
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
    assert "while measuring:" in found.stdout


def test_on_a_board(
    write_graph: WriteGraph, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One made of files, with a firmware that answers: everything that can be told is."""
    root = fake_machine.raspberry_pi(tmp_path / "pi")
    pmic = "VDD_CORE_A current(7)=2.0A\nVDD_CORE_V volt(15)=0.8V"
    fake_machine.vcgencmd(tmp_path, "0x50005", pmic)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    real = Measuring.__init__

    def on_board(self: Measuring, *arguments: Any) -> None:
        real(self, *arguments, root=root)

    monkeypatch.setattr(Measuring, "__init__", on_board)
    monkeypatch.setattr(measuring, "choose_cores", lambda *_: None)  # it has four, this machine not
    result = bench([write_graph()], duration=0.2, rate=4000, deadline_us=1e6)
    answer = parse_bench(json.dumps(result.to_json(), allow_nan=False), "the answer")
    found = answer["conditions"]
    assert found["governor"] == "ondemand"
    assert found["temperature_c"] == {"start": 48.212, "max": 48.212}
    assert found["throttled"] is True
    assert found["throttle_reasons"] == ["under-voltage", "throttled"]
    for turn in answer["timeline"]:
        assert turn["temperature_c"] == 48.212
        assert turn["throttled"] is True
        assert turn["clock_mhz"] == 1050
    (row,) = answer["results"]
    # 1.6 W for as long as a turn takes, which is somewhat longer than its runs together.
    assert row["energy_uj_per_sample"] >= 0.9 * 1.6 * 1e6 / row["samples_per_second"]
    assert row["deadline"]["missed"] == 0
    said = "; ".join(answer["warnings"])
    assert "held back while measuring (under-voltage, throttled)" in said
    assert 'the governor "ondemand" lowers the clock' in said


def test_the_graph_s_own_rate_is_taken(write_graph: WriteGraph) -> None:
    path = write_graph(rate=8000.0)
    own, asked = (bench([path], duration=0.05, rate=rate).results[0] for rate in (None, 100.0))
    assert (own.rate_hz, asked.rate_hz) == (8000, 100)
    assert own.real_time_factor == pytest.approx(own.us_per_sample * 8000 / 1e6)
    assert bench([write_graph("none.onnx")], duration=0.05).results[0].rate_hz is None


def test_threads_have_cores_of_their_own(write_graph: WriteGraph) -> None:
    cores = pinning.usable_cores()
    if cores is None or len(cores) < 2:
        pytest.skip("one core, or nothing can be pinned")
    assert bench([write_graph()], threads=1, duration=0.05).pinned_to == [max(cores)]
    two = bench([write_graph()], threads=2, duration=0.05)
    assert len(two.pinned_to or ()) == 2
    assert os.sched_getaffinity(0) == set(cores)
