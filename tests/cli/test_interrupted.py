"""Interrupted runs: no half file, the old file as it was, no traceback, nothing left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from s4edge_command import snapshot

# The command with one thing slowed down until it is interrupted: the reduction of a layer, or the
# file itself when a part of it is on the disk. It says on stdout when it is there.
DRIVER = """
import sys, time
from s4edge.cli.main import main

def wait(*args, **kwargs):
    print("there", flush=True)
    while True:
        time.sleep(0.01)

def half(tensors, path, **kwargs):
    with open(path, "wb") as file:
        file.write(b"half of a file")
        file.flush()
        wait()

if sys.argv.pop(1) == "reducing":
    import dataclasses
    from s4edge.compression.states.methods.registry import METHODS
    METHODS["balanced"] = dataclasses.replace(METHODS["balanced"], reduce=wait)
else:
    import s4edge.model.file as file
    file.save_file = half
main()
"""


def interrupt(folder: Path, where: str, number: int) -> tuple[int, str]:
    """Start a compression, send it a signal when it is there; its status and what it said."""
    command = ["compress", "model.pt", "--state", "16", "-o", "out.safetensors"]
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, where, *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    started = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - started < 10
    return process.returncode, said


@pytest.mark.parametrize(
    ("where", "number", "statuses", "says"),
    [
        ("reducing", signal.SIGINT, (1, 130), "Aborted!"),
        ("writing", signal.SIGINT, (1, 130), "Aborted!"),
        ("writing", signal.SIGTERM, (143,), ""),
    ],
)
def test_asked_to_stop(
    folder: Path, where: str, number: int, statuses: tuple[int, ...], says: str
) -> None:
    if where == "writing":
        (folder / "out.safetensors").write_bytes(b"the old file")
    before = snapshot(folder)
    status, said = interrupt(folder, where, number)
    assert status in statuses
    assert "Traceback" not in said
    assert [line for line in said.split("\n") if line and not line.startswith("Assumed")] == (
        [says] if says else []
    )
    assert snapshot(folder) == before


def test_killed(folder: Path) -> None:
    """Nobody can clean up after SIGKILL; the file that bears the name is still whole."""
    (folder / "out.safetensors").write_bytes(b"the old file")
    status, _ = interrupt(folder, "writing", signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert (folder / "out.safetensors").read_bytes() == b"the old file"
    left = set(snapshot(folder)) - {"model.pt", "out.safetensors"}
    assert len(left) == 1
    # A hidden one that no command takes for a model.
    assert left.pop().startswith(".out.safetensors.")


def test_bench_takes_its_processes_along(built: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from s4edge.cli.main import main; main()", "bench",
         "model-s16.onnx", "--duration", "60"],
        cwd=built, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    worker = _child_of(process.pid)
    process.send_signal(signal.SIGTERM)
    out, said = process.communicate(timeout=30)
    assert (process.returncode, out, said) == (143, "", "")
    # Killed, or, where the signal came while it was being started, at the end of its input.
    end = time.monotonic() + 10
    while Path(f"/proc/{worker}").exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert not Path(f"/proc/{worker}").exists()


def _child_of(pid: int) -> int:
    """The worker's process id, once it is there."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    if not children.exists():
        pytest.skip("this kernel does not tell a process's children")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        found = children.read_text().split()
        if found:
            return int(found[0])
        time.sleep(0.02)
    raise AssertionError("the benchmark started no process")
