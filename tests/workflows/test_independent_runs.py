"""Independent runs: here, in processes, and what happens when one of these ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from s4edge.errors import S4EdgeError
from s4edge.progress import Progress
from s4edge.systems.parallel import available_cores
from s4edge.workflows.independent_runs import Ended, Engine, failures

# Two runs at a time, in processes that sleep; what the runs write tells where they are.
DRIVER = """
import os, sys, time
from pathlib import Path
from s4edge.workflows.independent_runs import Engine

def work(run, progress):
    (Path(sys.argv[1]) / f"{run}.pid").write_text(str(os.getpid()))
    time.sleep(100)

if __name__ == "__main__":
    with Engine(workers=2).open(print) as hand_out:
        list(hand_out(work, {"a": "a", "b": "b", "c": "c"}))
"""


def work(run: dict[str, Any], progress: Progress) -> tuple[int, int, float]:
    """Square a number; or raise, or end the process, once or always."""
    progress(0.5)
    if "raises" in run:
        raise run["raises"]
    if "killed" in run and not Path(run["killed"]).exists():
        if run.get("once"):
            Path(run["killed"]).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    found = torch.linspace(0, 1, 1000).square().sum().item()
    return run["number"] ** 2, torch.get_num_threads(), found


def do(
    engine: Engine, runs: dict[str, Any]
) -> tuple[dict[str, Ended[Any]], list[str], list[float]]:
    told: list[str] = []
    fractions: list[float] = []
    with engine.open(told.append) as hand_out:
        ended = {each.name: each for each in hand_out(work, runs, fractions.append)}
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    return ended, told, fractions


@pytest.mark.parametrize("threads", [None, 2])
def test_here(threads: int | None) -> None:
    before = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    runs = {
        "two": {"number": 2},
        "wrong": {"raises": S4EdgeError("give\nmore")},
        "bug": {"raises": KeyError("x")},
        "memory": {"raises": RuntimeError("DefaultCPUAllocator: can't allocate memory")},
        "three": {"number": 3},
    }
    ended, told, fractions = do(Engine(threads=threads), runs)
    assert list(ended) == list(runs)
    assert not told
    assert fractions[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert ended["three"].result[:2] == (9, threads or before[0])
    assert before == (torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS"))
    problem = failures(list(ended.values()))
    assert problem.startswith("3 of 5 runs failed: wrong: give more; bug: KeyError: 'x' (")
    assert problem.endswith("memory: out of memory")
    assert failures([ended["two"]]) == ""


def test_processes(tmp_path: Path) -> None:
    """A process that is killed costs its own run only, which is begun again; once."""
    runs: dict[str, Any] = {
        "once": {"number": 1, "killed": str(tmp_path / "killed"), "once": True},
        "two": {"number": 2},
        "always": {"number": 0, "killed": str(tmp_path / "no" / "file")},
        "wrong": {"raises": S4EdgeError("give more")},
        "three": {"number": 3},
    }
    ended, told, _ = do(Engine(workers=2, threads=1), runs)
    here, _, _ = do(Engine(threads=1), {name: runs[name] for name in ("two", "three")})
    assert ended.keys() == runs.keys()
    for name in here:
        assert ended[name].result == here[name].result
    assert ended["once"].result[0] == 1
    assert ended["wrong"].problem == "give more"
    assert ended["always"].problem == "its process ended 2 times (SIGKILL)"
    assert sorted(told) == [
        f"{name}: its process ended (SIGKILL); it is begun again." for name in ("always", "once")
    ]


def test_what_cannot_be_sent() -> None:
    lock = threading.Lock()

    def bound(run: Any, progress: Progress) -> None:
        lock.acquire()

    with (
        Engine(workers=2).open(print) as hand_out,
        pytest.raises(S4EdgeError, match="cannot be sent to workers: TypeError"),
    ):
        list(hand_out(bound, {"a": 1}))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped(tmp_path: Path, number: int) -> None:
    """No process is left, whether the one that began them could end them or not."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)], stderr=subprocess.PIPE, text=True
    )
    found = _waited_for(lambda: len(list(tmp_path.glob("*.pid"))) == 2 or process.poll())
    assert found is True, process.communicate()
    workers = [int(path.read_text() or 0) for path in tmp_path.glob("*.pid")]
    started = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=30)
    assert time.monotonic() - started < 10
    assert _waited_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    assert len(list(tmp_path.glob("*.pid"))) == 2


def _waited_for(condition: Any) -> Any:
    end = time.monotonic() + 40
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def test_threads() -> None:
    cores = available_cores()
    assert Engine(workers=2).threads_each == max(1, cores // 2)
    assert Engine(workers=64).threads_each == 1
    assert Engine(workers=2, threads=3).threads_each == 3
    assert Engine("dask").threads_each == Engine("dask=tcp://there:1").threads_each == 1


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("", "--engine  is none; give local, dask, ray"),
        ("joblib", "--engine joblib is none"),
        ("local=3", "--engine local=3 is none"),
        ("dask", "pip install distributed"),
        ("ray=there:1", "pip install ray"),
    ],
)
def test_no_engine(monkeypatch: pytest.MonkeyPatch, where: str, says: str) -> None:
    for package in ("distributed", "ray"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(S4EdgeError, match=says), Engine(where).open(print):
        pass


@pytest.mark.parametrize(("kind", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, package: str) -> None:
    """As in processes of our own."""
    pytest.importorskip(package)
    # Ray's workers look for modules where the environment says, and nowhere else.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    runs = {
        "once": {"number": 1, "killed": str(tmp_path / "killed"), "once": True},
        "two": {"number": 2},
        "wrong": {"raises": S4EdgeError("give more")},
    }
    ended, _, _ = do(Engine(kind, workers=2), runs)
    assert [ended[name].result for name in ("once", "two")] == [
        each.result
        for each in do(Engine(threads=1), {"a": {"number": 1}, "b": {"number": 2}})[0].values()
    ]
    assert ended["wrong"].problem == "give more"


@pytest.mark.parametrize(("kind", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_nobody_answers(kind: str, package: str) -> None:
    pytest.importorskip(package)
    where = f"{kind}={'tcp://' if kind == 'dask' else ''}127.0.0.1:1"
    with (
        pytest.raises(S4EdgeError, match=f"no {kind} cluster answers there"),
        Engine(where).open(print),
    ):
        pass
