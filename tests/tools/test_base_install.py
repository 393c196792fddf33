"""The pieces of the base install's check; that it works is shown by `make base`."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import base_install
import board
import pytest


def test_versions_of_interpreters(tmp_path: Path) -> None:
    assert base_install.version_of(sys.executable) == sys.version_info[:3]
    assert base_install.version_of(tmp_path / "none") is None
    shim = tmp_path / "python3.9"
    shim.write_text("#!/bin/sh\necho 'not installed' >&2\nexit 127\n")
    shim.chmod(0o755)
    assert base_install.version_of(shim) is None


def test_interpreters_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, said in (("3.8", "3.8.1"), ("3.9", "3.9.5"), ("3.12", "3.12.0"), ("3.13", "")):
        python = tmp_path / f"python{name}"
        python.write_text(f"#!/bin/sh\necho 'Python {said}'\n")
        python.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    # The one that is too old and the one that does not answer are passed over.
    assert base_install.on_path() == [tmp_path / "python3.9", tmp_path / "python3.12"]


def test_a_failure_is_kept() -> None:
    report = base_install.Report("")
    report.add("told", "")
    report.add("good", "", ok=True)
    assert not report.failed
    report.add("bad", "", ok=False)
    report.add("good", "", ok=True)
    assert report.failed


def test_nothing_of_the_callers_python_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    code = "import os; print(os.environ.get('PYTHONPATH'), os.environ['OF_THE_BOARD'])"
    there = board.Board(Path(sys.executable), {"OF_THE_BOARD": "yes"})
    assert there.call("-c", code).stdout == "None yes\n"


def test_packages_and_sizes_of_this_environment() -> None:
    packages, heavy = board.Board(Path(sys.executable)).packages()
    assert {"torch", "scipy", "onnx"} <= set(heavy)
    assert "pip" not in packages
    assert packages["numpy"][0].startswith("2.") or packages["numpy"][0].startswith("1.")
    assert 10e6 < packages["numpy"][1] < 150e6


def test_how_a_command_failed() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        board.Board(Path(sys.executable)).call("-c", "raise ValueError('so')")
    assert board.last_line(caught.value) == "exit status 1: ValueError: so"


def test_the_wheel_holds_the_package_as_it_is(tmp_path: Path) -> None:
    with zipfile.ZipFile(board.build_wheel(tmp_path)) as wheel:
        held = {name for name in wheel.namelist() if name.startswith("s4edge/")}
    package = board.ROOT / "s4edge"
    assert held == {
        path.relative_to(board.ROOT).as_posix()
        for path in package.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
