"""What the emulated board's tool decides by itself; that it works is shown by `make arm64`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from arm64 import root
from arm64.targets import TARGETS

DEB822 = """Types: deb
# http://elsewhere.example/debian
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /keys/debian.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""
OTHERS = "Types: deb\nURIs: https://vendor.example/node\nSuites: nodistro\nComponents: main\n"


def test_the_archive_in_both_of_apts_formats() -> None:
    assert root.debian_archive([OTHERS, DEB822]) == (
        "http://mirror.example/debian",
        "/keys/debian.gpg",
    )
    line = "# deb http://no.example/debian x\ndeb [arch=amd64 {}] http://b.example/debian/ sid main"
    assert root.debian_archive([line.format("signed-by=/k.gpg")]) == (
        "http://b.example/debian/",
        "/k.gpg",
    )
    assert root.debian_archive([line.format("")]) == ("http://b.example/debian/", root.KEYRING)


def test_no_archive_of_debians() -> None:
    ubuntu = "deb http://a.example/ubuntu noble main\n"
    security = "deb http://a.example/debian-security trixie-security main\n"
    assert root.debian_archive([]) is None
    assert root.debian_archive([OTHERS, ubuntu, security]) is None


def test_a_program_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if "qemu" in name else f"/bin/{name}")
    with pytest.raises(root.CannotError, match=r"^qemu-arm-static not installed"):
        root.check_machine(TARGETS["armhf"])


@pytest.mark.parametrize("arch", TARGETS)
def test_processors_as_linux_tells_them(arch: str) -> None:
    for processor in TARGETS[arch].processors:
        cores = processor.cpuinfo(3).split("\n\n")[:-1]
        assert [core.splitlines()[0] for core in cores] == [f"processor\t: {n}" for n in range(3)]
        assert f"CPU part\t: {processor.part:#x}" in cores[2]
        # As the kernel's own file: key, tab, colon.
        assert all(re.match(r"[^\t:]+\t: \S", line) for core in cores for line in core.splitlines())


def test_made_once_for_each_key(tmp_path: Path) -> None:
    home, made = tmp_path / "a", []

    def make(key: str) -> None:
        root.made_once(home, [key], lambda: made.append((key, list(home.iterdir()))))
        (home / "left over").touch()

    for key in ("one", "one", "two"):
        make(key)
    assert made == [("one", []), ("two", [])]


def test_made_again_after_a_failure(tmp_path: Path) -> None:
    home = tmp_path / "a"
    root.made_once(home, 1, lambda: None)
    with pytest.raises(ZeroDivisionError):
        root.made_once(home, 2, lambda: 1 // 0)
    done: list[int] = []
    root.made_once(home, 1, lambda: done.append(1))
    assert done == [1]
    assert json.loads((tmp_path / "a.made").read_text()) == 1
