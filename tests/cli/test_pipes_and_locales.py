"""Output into pipes, full disks and terminals that know ASCII only."""

from __future__ import annotations

import os
import pty
import resource
import shutil
import subprocess
from pathlib import Path

import pytest
from s4edge_command import SCRIPT, call, call_process, read_terminal, snapshot

from s4edge.cli import terminal

# Needs no torch, so that its process starts fast.
EVAL = ("eval", "model-s16.onnx", "--data", "digits.npz")
ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}


@pytest.fixture
def work(tmp_path: Path, built: Path) -> Path:
    for name in ("model.pt", "model-s16.safetensors", "model-s16.onnx", "digits.npz"):
        shutil.copy(built / name, tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ("compress", "model.pt", "--state", "64", "-o", "größe.safetensors"),
        EVAL,
        ("bench", "model-s16.onnx", "--duration", "0.05", "-v"),
        ("bench", "größe.onnx"),
    ],
    ids=lambda arguments: f"{arguments[0]} {arguments[1]}",
)
def test_plain_ascii(work: Path, arguments: tuple[str, ...]) -> None:
    """No command falls over its own signs or a name, and a pipe gets no control characters."""
    found = call_process(work, *arguments, environment=ASCII)
    assert "Traceback" not in found.stderr
    assert found.status == (1 if arguments == ("bench", "größe.onnx") else 0)
    assert found.stdout.isascii()
    for text in (found.stdout, found.stderr):
        assert "\x1b" not in text
        assert "\r" not in text
        assert "Reducing" not in text
        assert "Evaluating" not in text


def test_progress_on_a_terminal(work: Path) -> None:
    """The bar is on stderr, so that stdout can still be piped."""
    command = [str(SCRIPT), *EVAL, "--json"]
    here, there = pty.openpty()
    with subprocess.Popen(
        command, cwd=work, stdout=subprocess.PIPE, stderr=there,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "80"},
    ) as process:  # fmt: skip
        os.close(there)
        shown = read_terminal(here)
        assert process.stdout is not None
        out = process.stdout.read()
    os.close(here)
    assert process.returncode == 0
    assert b"Evaluating" in shown
    assert out.startswith(b"{")
    assert b"\x1b" not in out


def test_reader_gone(work: Path) -> None:
    """As in ``s4edge eval ... | head -0``."""
    for options in ([], ["--json"]):
        process = subprocess.Popen(
            [str(SCRIPT), *EVAL, *options],
            cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
        process.stderr.close()
        assert process.wait(60) in (0, 1)
        assert "Traceback" not in said
        assert "Error" not in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_nowhere_to_write_the_answer(work: Path, options: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [str(SCRIPT), *EVAL, *options],
            cwd=work, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "Error: [Errno 28] No space left on device"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (("compress", "model.pt", "--state", "64"), "out.safetensors"),
        (("export", "model-s16.safetensors", "--onnx"), "out.onnx"),
    ],
)
def test_disk_full(work: Path, arguments: tuple[str, ...], output: str) -> None:
    """Stood in for by a limit on the size of files; the old file stays."""
    (work / output).write_text("the old file")
    before = snapshot(work)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        found = call(work, *arguments, "-o", output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (found.crash, found.status, found.stdout) == (None, 1, "")
    assert found.last_line.startswith(f"Error: cannot write {output}: ")
    assert snapshot(work) == before


# A disk of 100 kB that only the command sees, and what is on it afterwards.
SMALL_DISK = """mount -t tmpfs -o size=100k tmpfs "$1" || exit 77
cd "$1" && echo old >out.c && shift && "$@"
status=$?
head -n 1 out.c && ls -A
exit $status"""


@pytest.mark.parametrize("options", [[], ["--compile"], ["--package", "zephyr"]])
def test_disk_full_of_c(work: Path, options: list[str]) -> None:
    """C is tried out elsewhere, where there is room."""
    own = ["unshare", "--user", "--map-root-user", "--mount"]
    (work / "disk").mkdir()
    command = [*own, "sh", "-c", SMALL_DISK, "sh", str(work / "disk"), str(SCRIPT), "export"]
    model = str(work / "model-s16.safetensors")
    try:
        done = subprocess.run(
            [*command, model, "--c", "-o", "out.c", *options], capture_output=True, text=True,
            check=False, env=os.environ | {"CC": "gcc -O0"},
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no file system of its own may be mounted here")
    assert (done.returncode, done.stdout) == (1, "old\nout.c\n")
    said = done.stderr.splitlines()
    assert said == ["Error: cannot write out.c: No space left on device"]


def test_names_are_no_markup(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither brackets nor colons in a file's name mean anything to the printer."""
    # The console itself: it may have been made when another width was in force.
    monkeypatch.setattr(terminal.console, "_width", 200)
    name = "a[bold]b[x] :smile: c.safetensors"
    shutil.copy(work / "model-s16.safetensors", work / name)
    for arguments in (
        ("inspect", name),
        ("compress", name, "--state", "16", "-o", "o-" + name),
        ("export", name, "--onnx"),
        ("export", name, "--onnx", "-o", name + ".onnx"),
        ("eval", name, "--data", "digits.npz"),
        ("bench", name + ".onnx", "--duration", "0.05"),
    ):
        found = call(work, *arguments)
        assert found.status == 0, found.stderr
        assert "a[bold]b[x] :smile: c" in found.stdout
