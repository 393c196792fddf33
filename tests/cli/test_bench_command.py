"""``s4edge bench`` as a person types it: its file, its ends, what it says when things go wrong."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from s4edge_command import Outcome, call, call_process, snapshot

from s4edge.bench import measuring, read_bench
from s4edge.bench.file import parse_bench
from s4edge.cli import terminal


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "PROCESSES", 1)


@pytest.fixture
def work(tmp_path: Path, built: Path) -> Path:
    for name in ("model-s16.onnx", "model-s64.onnx"):
        shutil.copy(built / name, tmp_path)
    return tmp_path


@pytest.fixture
def while_measuring(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Have something happen once, in the middle of the rounds."""

    def act(action: Callable[[], None]) -> None:
        @contextlib.contextmanager
        def progress(_: str) -> Iterator[Callable[[float], None]]:
            waiting = [action]
            yield lambda done: waiting.pop()() if done > 0.9 and waiting else None

        monkeypatch.setattr(terminal, "progress", progress)

    return act


def bench(work: Path, *arguments: str) -> Outcome:
    found = call(work, "bench", *arguments)
    assert found.crash is None
    assert "Traceback" not in found.stderr
    return found


BOTH = ("model-s64.onnx", "model-s16.onnx", "--duration", "0.3")


def test_file_and_standard_output_say_the_same(work: Path) -> None:
    found = bench(work, *BOTH, "--rate", "4000", "--deadline", "500", "--json", "-o", "a.json")
    assert found.status == 0
    answer = read_bench(work / "a.json")
    assert answer == parse_bench(found.stdout, "standard output")
    first, second = answer["results"]
    assert first["ratio"] is None
    assert second["ratio"]["low"] <= second["ratio"]["value"] <= second["ratio"]["high"]
    for row in answer["results"]:
        assert row["real_time_factor"] == pytest.approx(row["us_per_sample"] * 4000 / 1e6)
        late = row["deadline"]
        assert (late["us"], late["period_us"]) == (500, 250)
        assert late["missed_fraction"] == pytest.approx(late["missed"] / late["runs"], rel=1e-5)
        assert late["response_us"]["p50"] >= row["latency_us"]["min"]
        assert (
            late["response_us"]["p50"] <= late["response_us"]["p99"] <= late["response_us"]["max"]
        )
    # Warnings go to people in both cases, and nothing else does.
    assert [f"Warning: {line}" for line in answer["warnings"]] == found.stderr.splitlines()


def test_deadline_without_a_rate_judges_all_runs(work: Path) -> None:
    for us, share in (("0.001", 1.0), ("1e9", 0.0)):
        found = bench(work, "model-s16.onnx", "--duration", "0.1", "--deadline", us, "--json")
        (row,) = json.loads(found.stdout)["results"]
        late = row["deadline"]
        assert late["missed_fraction"] == share
        assert late["runs"] == row["runs"]
        assert late["period_us"] is late["jitter_us"] is row["real_time_factor"] is None


def test_a_pace_too_slow_for_the_time_is_said(work: Path) -> None:
    found = bench(
        work, "model-s16.onnx", "--duration", "0.1", "--rate", "1", "--deadline", "9", "--json"
    )
    (row,) = json.loads(found.stdout)["results"]
    assert row["deadline"] is None
    assert "has no answer to --deadline: a run is due every 1 s" in found.stderr
    assert "measure with --duration 12" in found.stderr


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
@pytest.mark.parametrize("options", [["-o", "a.json"], ["-o", "a.json", "--json"]])
def test_stopped_in_the_middle(
    work: Path,
    while_measuring: Callable[[Callable[[], None]], None],
    number: int,
    status: int,
    options: list[str],
) -> None:
    while_measuring(lambda: os.kill(os.getpid(), number))
    found = bench(work, *BOTH, *options)
    assert found.status == status
    answer = read_bench(work / "a.json")
    assert answer["interrupted"] is True
    assert [row["model"] for row in answer["results"]] == list(BOTH[:2])
    assert "these are the results so far: it was interrupted" in found.stderr
    if "--json" in options:
        assert json.loads(found.stdout) == answer
    else:
        assert "model-s64.onnx" in found.stdout
    assert set(os.listdir(work)) == {"model-s16.onnx", "model-s64.onnx", "a.json"}


def test_stopped_before_anything_was_measured(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def progress(_: str) -> Iterator[Callable[[float], None]]:
        yield lambda _: os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(terminal, "progress", progress)
    (work / "a.json").write_text("the old file")
    found = bench(work, *BOTH, "-o", "a.json")
    assert (found.status, found.stdout) == (1, "")
    assert found.last_line == "Aborted!"
    assert (work / "a.json").read_text() == "the old file"


def test_worker_killed_in_the_middle(
    work: Path, while_measuring: Callable[[Callable[[], None]], None]
) -> None:
    def kill() -> None:
        for children in Path("/proc/self/task").glob("*/children"):
            for pid in children.read_text().split():
                os.kill(int(pid), signal.SIGKILL)

    if not list(Path("/proc/self/task").glob("*/children")):
        pytest.skip("this kernel does not tell a process's children")
    while_measuring(kill)
    found = bench(work, *BOTH, "-o", "a.json")
    assert found.status == 1
    assert "model-s64.onnx" in found.stdout
    assert found.last_line.startswith("Error: measuring model-s")
    assert "killed (signal 9), as happens where memory runs out" in found.last_line
    assert read_bench(work / "a.json")["interrupted"] is True


def test_disk_full(work: Path) -> None:
    """Stood in for by a limit on the size of files: the old file stays, the results are told."""
    (work / "a.json").write_text("the old file")
    before = snapshot(work)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        found = bench(work, *BOTH, "-o", "a.json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert found.status == 1
    assert "model-s64.onnx" in found.stdout
    assert found.last_line == "Error: cannot write a.json: File too large"
    assert snapshot(work) == before


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("none/a.json", "the folder none does not exist"),
        (".", "it is a folder"),
        ("model-s64.onnx", "it is used here, too"),
    ],
)
def test_a_file_that_cannot_be_written_is_said_before_measuring(
    work: Path, monkeypatch: pytest.MonkeyPatch, path: str, says: str
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("it measured")

    monkeypatch.setattr("s4edge.bench.bench", fail)
    found = call(work, "bench", "model-s64.onnx", "-o", path)
    assert found.status in (1, 2)
    assert says in found.stderr or "is a directory" in found.stderr


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "model-s64.onnx does not exist"),
        (b"", "model-s64.onnx is empty"),
        (b"\x08\x09", "cannot load model-s64.onnx"),
    ],
)
def test_a_missing_or_damaged_graph(work: Path, content: bytes | None, says: str) -> None:
    (work / "model-s64.onnx").unlink()
    if content is not None:
        (work / "model-s64.onnx").write_bytes(content)
    found = bench(work, *BOTH)
    assert (found.status, found.stdout) == (1, "")
    (line,) = found.stderr.splitlines()
    assert says in line


def test_emulated_times_are_labelled(work: Path) -> None:
    found = call_process(
        work, "bench", "model-s16.onnx", "--duration", "0.05",
        environment={"S4EDGE_EMULATED": "1", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert found.status == 0
    assert "EMULATED: these times are no speed of any board" in found.stdout
    assert "an emulator runs this" in found.stderr
    assert found.stdout.isascii()
    assert found.stderr.isascii()
