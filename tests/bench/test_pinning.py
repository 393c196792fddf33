from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import fake_machine
import pytest
from small_graph import WriteGraph

from s4edge.bench.machine import pinning
from s4edge.bench.machine.emulation import is_emulated
from s4edge.bench.machine.pinning import choose_cores, out_of_the_way, pinned
from s4edge.bench.worker_process import WorkerProcess
from s4edge.runtime import read_info

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="no affinity on this system"
)
needs_two_cores = pytest.mark.skipif(
    len(getattr(os, "sched_getaffinity", lambda _: [0])(0)) < 2, reason="one core"
)


def test_strong_cores_first_then_high_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pinning, "usable_cores", lambda: [0, 1, 2, 3])
    monkeypatch.setattr(pinning, "_may_pin", lambda cores: True)
    assert choose_cores(1, tmp_path) == [3]
    assert choose_cores(2, tmp_path) == [2, 3]
    assert choose_cores(9, tmp_path) == [0, 1, 2, 3]
    root = fake_machine.big_and_little(tmp_path)
    assert choose_cores(1, root) == [2]
    assert choose_cores(2, root) == [1, 2]
    assert choose_cores(3, root) == [1, 2, 3]


@needs_affinity
def test_where_nothing_may_be_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    before = os.sched_getaffinity(0)
    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    assert choose_cores(1) is None
    with out_of_the_way(None), pinned(None):
        assert os.sched_getaffinity(0) == before
    monkeypatch.delattr(os, "sched_getaffinity")
    assert choose_cores(1) is None
    with out_of_the_way([0]), pinned([0]):
        pass


@needs_two_cores
def test_bench_and_model_have_cores_of_their_own(write_graph: WriteGraph) -> None:
    before = os.sched_getaffinity(0)
    cores = choose_cores(1)
    assert cores is not None
    other = threading.Thread(target=threading.Event().wait, args=(30,), daemon=True)
    other.start()
    with out_of_the_way(cores), WorkerProcess(read_info(write_graph()), 1, cores) as worker:
        for name in os.listdir("/proc/self/task"):
            assert not os.sched_getaffinity(int(name)) & set(cores)
        pid = worker._process.pid
        worker.ask("run 0.05")
        threads = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
        assert all(os.sched_getaffinity(thread) == set(cores) for thread in threads)
    for name in os.listdir("/proc/self/task"):
        assert os.sched_getaffinity(int(name)) == before


@needs_affinity
def test_a_single_core_is_shared() -> None:
    core = min(os.sched_getaffinity(0))
    program = (
        "import os; from s4edge.bench.machine.pinning import *\n"
        "cores = choose_cores(2); print(cores)\n"
        "with out_of_the_way(cores), pinned(cores): print(sorted(os.sched_getaffinity(0)))"
    )
    with pinned([core]):
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
    assert done.stdout.split("\n")[:2] == [f"[{core}]"] * 2


def elf(path: Path, machine: int, word: int = 2, order: str = "<") -> Path:
    """The head of a program for a processor: 62 is x86-64, 183 aarch64, 40 arm, 22 s390."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ident = b"\x7fELF" + bytes([word, 1 if order == "<" else 2, 1]) + bytes(9)
    path.write_bytes(ident + struct.pack(order + "HH", 2, machine) + bytes(44))
    return path


@pytest.fixture
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("S4EDGE_EMULATED", raising=False)


@pytest.mark.usefixtures("no_variable")
def test_a_program_of_another_processor_is_an_emulator(tmp_path: Path) -> None:
    started = tmp_path / f"proc/self/task/{threading.get_native_id()}/exe"
    python = elf(tmp_path / "python", 183)
    for machine, word, emulated in ((62, 2, True), (183, 2, False), (62, 1, True), (40, 1, True)):
        elf(started, machine, word)
        assert is_emulated(tmp_path, python) is emulated
    # Python may be started through a script: what the emulator shows of itself counts, too.
    script = tmp_path / "python.sh"
    script.write_text("#!/bin/sh\n")
    elf(started, 62)
    assert is_emulated(tmp_path, script) is False
    elf(tmp_path / "proc/self/exe", 183)
    assert is_emulated(tmp_path, script) is True


@pytest.mark.usefixtures("no_variable")
def test_a_program_that_runs_by_itself_is_none(tmp_path: Path) -> None:
    # 32 bit on a 64-bit kernel, as on many a Raspberry Pi; and the other order of bytes.
    for machine, word, order in ((40, 1, "<"), (22, 2, ">")):
        python = elf(tmp_path / "python", machine, word, order)
        elf(tmp_path / f"proc/self/task/{threading.get_native_id()}/exe", machine, word, order)
        assert is_emulated(tmp_path, python) is False
    assert is_emulated(tmp_path / "nothing", python) is False
    assert is_emulated() is False or "qemu" in os.readlink(
        f"/proc/self/task/{threading.get_native_id()}/exe"
    )


def test_the_variable_has_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, emulated in (("1", True), ("0", False), ("", False), ("yes", True)):
        monkeypatch.setenv("S4EDGE_EMULATED", value)
        assert is_emulated(tmp_path) is emulated
