"""What goes wrong while measuring: one line, and what was found so far is kept."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_graph import WriteGraph
from test_bench import children

from s4edge.bench import BenchFailedError, bench, measuring, worker_process
from s4edge.bench.file import parse_bench
from s4edge.bench.machine.pinning import pinned
from s4edge.bench.measuring import Measuring
from s4edge.bench.worker import Worker
from s4edge.errors import S4EdgeError


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "PROCESSES", 1)


def late(action: Callable[[], None]) -> Callable[[float], None]:
    """A progress function that acts once, when rounds are under way."""

    def progress(done: float) -> None:
        if done > 0.9 and calls:
            calls.pop()
            action()

    calls = [None]
    return progress


def interrupt() -> None:
    raise KeyboardInterrupt


def kill_workers() -> None:
    for pid in children(os.getpid()):
        os.kill(pid, signal.SIGKILL)


def test_ctrl_c_keeps_what_was_found(write_graph: WriteGraph) -> None:
    paths = [write_graph("a.onnx"), write_graph("b.onnx")]
    whole = bench(paths, duration=0.6)
    part = bench(paths, duration=0.6, progress=late(interrupt))
    assert part.interrupted
    assert [row.model for row in part.results] == [str(path) for path in paths]
    for row, full in zip(part.results, whole.results, strict=True):
        assert 0 < len(row.rounds) < len(full.rounds)
        assert row.runs == sum(each.runs for each in row.rounds) == sum(row.histogram.counts)
    assert "these are the results so far: it was interrupted" in part.warnings
    answer = parse_bench(json.dumps(part.to_json(), allow_nan=False), "the answer")
    assert answer["interrupted"] is True


def test_ctrl_c_before_anything_was_found(write_graph: WriteGraph) -> None:
    with pytest.raises(KeyboardInterrupt):
        bench([write_graph()], duration=0.2, progress=lambda _: interrupt())


def test_ctrl_c_after_the_first_model_only(
    write_graph: WriteGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has had no turn is not shown; there is no figure that was not measured."""
    turn = Measuring._turn

    def first_turn(self: Measuring, *arguments: Any) -> None:
        turn(self, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Measuring, "_turn", first_turn)
    part = bench([write_graph("a.onnx"), write_graph("b.onnx")], duration=0.2)
    assert [Path(row.model).name for row in part.results] == ["a.onnx"]
    assert part.results[0].ratio is None
    parse_bench(json.dumps(part.to_json(), allow_nan=False), "the answer")


def test_killed_worker_leaves_what_was_found(write_graph: WriteGraph) -> None:
    with pytest.raises(BenchFailedError, match=r"\(signal 9\).*memory") as caught:
        bench([write_graph()], duration=0.6, progress=late(kill_workers))
    part = caught.value.result
    assert part.interrupted
    assert part.results[0].runs > 0
    assert str(caught.value) in part.warnings[-1]
    parse_bench(json.dumps(part.to_json(), allow_nan=False), "the answer")


LIMITED = """
import resource, sys
from s4edge.bench import worker
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
more = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_AS, (size + more, size + more))
sys.exit(worker.main())
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux only")
def test_a_limit_of_memory_is_named(write_graph: WriteGraph) -> None:
    """Wherever it is hit while the graph is loaded or run; at the end there is enough.

    Where onnxruntime itself falls over there is a signal instead, which the bench names.
    """
    path, said = write_graph(), []
    for more in (300_000, 700_000, 1_500_000, 500_000_000):
        done = subprocess.run(
            [sys.executable, "-c", LIMITED, str(more), str(path)],
            input="run 0.01\n", capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        assert done.stdout or done.returncode < 0
        said += [json.loads(line) for line in done.stdout.splitlines()[:1]]
    *short, enough = said
    assert short
    assert all(
        each.get("ready") or each["error"].startswith("not enough memory to ") for each in short
    )
    assert "ready" in enough


@pytest.mark.parametrize(
    ("ending", "says"),
    [
        ("raise MemoryError", r"not enough memory \(MemoryError\); close other programs"),
        (
            "raise ImportError('libonnxruntime.so: failed to map segment from shared object')",
            r"not enough memory \(ImportError: .*; close other programs or raise the limit",
        ),
        ("import sys; sys.exit('half of it is missing')", "exit status 1: half of it is missing"),
        ("import os; os.abort()", "the process was killed by signal 6"),
        ("import sys; sys.stderr.buffer.write(bytes([255])); sys.exit(3)", "exit status 3"),
    ],
)
def test_last_words_of_a_worker(
    write_graph: WriteGraph, monkeypatch: pytest.MonkeyPatch, ending: str, says: str
) -> None:
    monkeypatch.setattr(worker_process, "_PROGRAM", ending)
    with pytest.raises(S4EdgeError, match=says) as caught:
        bench([write_graph("doomed.onnx")])
    assert "measuring" in str(caught.value)
    assert "doomed.onnx failed: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_more_processes(write_graph: WriteGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_graph()

    def refuse(*_: Any, **__: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(S4EdgeError, match=r"no process could be started .*temporarily unavail"):
        bench([path])


def clock_that(times: Iterator[int]) -> Callable[[], int]:
    return lambda: next(times)


@pytest.mark.parametrize("step", [0, -1_000_000])
def test_a_clock_that_stands_still_or_goes_back(
    write_graph: WriteGraph, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Latencies stay what they can be, nothing is divided by zero and the turn ends."""
    worker = Worker(write_graph(), threads=1)
    # Wrong within the runs; an hour later the turn is over.
    start = 10**15
    times = [start + step * i for i in range(50)]
    monkeypatch.setattr(
        time, "perf_counter_ns", clock_that(itertools.chain(times, itertools.repeat(2 * start)))
    )
    found = worker.answer("run", [0.01])["latency_ns"]
    assert found["least_ns"] == 1
    assert found["runs"] == sum(found["counts"]) > 20


def test_the_time_of_day_may_go_back(
    write_graph: WriteGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A board without a clock of its own is set by the network while it measures."""
    hours = itertools.count(10**9, -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(hours)))
    monkeypatch.setattr(time, "time_ns", lambda: next(hours) * 10**9)
    result = bench([write_graph()], duration=0.1)
    seconds = [turn.seconds for turn in result.timeline]
    assert seconds[0] > 0
    assert seconds == sorted(seconds)
    assert result.results[0].cold_start.first_answer_seconds > 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_one_core(write_graph: WriteGraph) -> None:
    with pinned([min(os.sched_getaffinity(0))]):
        result = bench([write_graph()], threads=2, duration=0.1)
    assert result.device["cores"] == 1
    assert any("one core only" in line for line in result.warnings)
    assert result.results[0].runs > 0


def test_no_sys_and_no_proc(
    write_graph: WriteGraph, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = Measuring.__init__

    def without(self: Measuring, *arguments: Any) -> None:
        real(self, *arguments, root=tmp_path / "nothing")

    monkeypatch.setattr(Measuring, "__init__", without)
    result = bench([write_graph()], duration=0.1)
    answer = parse_bench(json.dumps(result.to_json(), allow_nan=False), "the answer")
    found = answer["conditions"]
    assert found.pop("throttle_reasons") == []
    assert set(found.values()) == {None}
    turn = answer["timeline"][0]
    assert turn["temperature_c"] is turn["clock_mhz"] is turn["throttled"] is None
    assert answer["results"][0]["energy_uj_per_sample"] is None


def test_memory_that_nobody_tells(write_graph: WriteGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    """As without /proc: the worker's look at it is led astray."""
    program = (
        "from s4edge.bench.machine import memory; from s4edge.bench import worker; "
        "import pathlib, sys; "
        "nowhere = pathlib.Path('/nowhere'); "
        "worker.memory_use = lambda: memory.memory_use(nowhere); "
        "worker.peak_rss_bytes = lambda: memory.peak_rss_bytes(nowhere); "
        "sys.exit(worker.main(0.0))"
    )
    monkeypatch.setattr(worker_process, "_PROGRAM", program)
    result = bench([write_graph()], duration=0.05)
    assert any("does not tell the memory" in line for line in result.warnings)
    memory = result.results[0].memory
    assert memory.peak_rss_bytes >= memory.runtime_bytes > 10e6
    assert memory.pss_bytes is memory.private_bytes is None
