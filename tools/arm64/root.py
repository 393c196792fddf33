"""A folder with Debian's Python for another processor, and an environment with s4edge in it.

Nothing of this machine's own apt or dpkg is touched, nothing is registered with its kernel, and no
root is needed. The Python is started by a script in its place that calls qemu, so what it starts
itself, by ``sys.executable`` or a script's first line, is emulated, too.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from arm64.targets import Processor, Target
from board import Board, last_line

SOURCES = (Path("/etc/apt/sources.list.d"), Path("/etc/apt/sources.list"))
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# Read after the machine's own configuration, which may know a proxy.
APT = """
#clear DPkg::Pre-Install-Pkgs;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "{user}";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "1";
Dir::State "{home}/state";
Dir::State::Lists "{home}/lists";
Dir::State::Status "{home}/status";
Dir::Cache "{home}/cache";
Dir::Log "{home}/log";
Dir::Etc::SourceList "{home}/debian.sources";
Dir::Etc::SourceParts "-";
"""
WRAPPER = """#!/bin/sh
# Stands where another processor's Python is called: this machine's kernel cannot start that.
exec {qemu} -cpu "${{QEMU_CPU:-{cpu}}}" -L "{root}" -0 "$0" "{root}/usr/bin/{python}" "$@"
"""
# Wheels for a C library this old or older; which is the suite's is known when it is there.
GLIBC = range(17, 42)


class CannotError(Exception):
    """What is missing on this machine, for one line."""


def debian_archive(texts: Sequence[str]) -> tuple[str, str] | None:
    """Address and keyring of the Debian archive in apt's files; None where none is named.

    Args:
        texts: of files in either of apt's formats.
    """
    for text in texts:
        for stanza in text.split("\n\n"):
            lines = [line for line in stanza.splitlines() if not line.startswith("#")]
            keys = {
                key.strip().lower(): value.split() for key, found, value in
                (line.partition(":") for line in lines) if found
            }  # fmt: skip
            for address in keys.get("uris", ()):
                if _is_debian(address):
                    return address, (keys.get("signed-by") or [KEYRING])[0]
        for line in text.splitlines():
            words = line.replace("[", " [ ").replace("]", " ] ").split()
            if words[:1] == ["deb"]:
                address = next((word for word in words if "://" in word), "")
                signed = [word[10:] for word in words if word.startswith("signed-by=")]
                if _is_debian(address):
                    return address, (signed or [KEYRING])[0]
    return None


def _is_debian(address: str) -> bool:
    return address.rstrip("/").endswith("/debian")


def check_machine(target: Target) -> tuple[str, str]:
    """Give the Debian archive that this machine's apt uses.

    Raises:
        CannotError: a program or the archive is missing.
    """
    missing = [name for name in (target.qemu, "apt-get", "dpkg-deb") if not shutil.which(name)]
    if missing:
        raise CannotError(f"{', '.join(missing)} not installed (apt-get install qemu-user-static)")
    files = [file for place in SOURCES for file in ([place] if place.is_file() else
             sorted(place.glob("*")) if place.is_dir() else [])]  # fmt: skip
    archive = debian_archive([file.read_text(errors="replace") for file in files])
    if archive is None:
        raise CannotError("this machine's apt knows no Debian archive")
    return archive


def run(*command: object, env: Mapping[str, str] | None = None) -> None:
    """Carry out a command quietly. Raises CalledProcessError, with what it said."""
    subprocess.run(
        [str(part) for part in command], check=True, capture_output=True, text=True, env=env,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def made_once(home: Path, key: Any, make: Callable[[], None]) -> None:
    """Make ``home`` anew unless it was made from the same key."""
    stamp = home.with_name(f"{home.name}.made")
    text = json.dumps(key, default=str)
    if stamp.is_file() and home.is_dir() and stamp.read_text() == text:
        return
    stamp.unlink(missing_ok=True)
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    make()
    stamp.write_text(text)


class Root:
    """Folders of one architecture: ``apt``, ``root``, ``wheels``, ``environment``."""

    def __init__(self, folder: Path, target: Target, suite: str) -> None:
        self.target, self.suite = target, suite
        self.folder = folder.resolve() / f"{target.arch}-{suite}"
        self.path = self.folder / "root"
        self.environment = self.folder / "environment"
        self.wheels = self.folder / "wheels"

    def build(self, archive: tuple[str, str]) -> None:
        """Download Debian's packages and unpack them, unless that was done.

        Raises:
            CannotError: the archive cannot be read.
            CalledProcessError: apt or dpkg failed.
        """
        key = [self.target, self.suite, self.folder, WRAPPER, archive]
        made_once(self.path, key, lambda: self._unpack(archive))

    def _unpack(self, archive: tuple[str, str]) -> None:
        home, target = self.folder / "apt", self.target
        for part in ("lists/partial", "cache/archives/partial", "state", "log"):
            (home / part).mkdir(parents=True, exist_ok=True)
        (home / "status").touch()
        address, keyring = archive
        (home / "debian.sources").write_text(
            f"Types: deb\nURIs: {address}\nSuites: {self.suite}\nComponents: main\n"
            f"Signed-By: {keyring}\n"
        )
        user = "root" if os.geteuid() == 0 else ""
        (home / "apt.conf").write_text(APT.format(arch=target.arch, home=home, user=user))
        apt = ("apt-get", "-c", home / "apt.conf", "--quiet", "--yes")
        try:
            run(*apt, "update", "--error-on=any")
        except subprocess.CalledProcessError as error:
            raise CannotError(f"the Debian archive cannot be read ({last_line(error)})") from error
        run(*apt, "install", "--download-only", "--no-install-recommends", *target.packages)
        for package in sorted((home / "cache" / "archives").glob("*.deb")):
            run("dpkg-deb", "-x", package, self.path)
        # What base-files would do, and the choices that dpkg's scripts would make.
        for name in ("bin", "lib", "sbin"):
            if not (self.path / name).exists():
                (self.path / name).symlink_to(f"usr/{name}")
        libraries = self.path / "usr/lib" / target.triple
        for name in ("blas", "lapack"):
            for library in (libraries / name).glob("*.so.3"):
                (libraries / library.name).symlink_to(f"{name}/{library.name}")
        (self.path / "proc").mkdir()
        wrapper = self.path / "usr/bin/python3"
        real = wrapper.resolve().name
        wrapper.unlink()
        wrapper.write_text(
            WRAPPER.format(
                qemu=target.qemu, cpu=target.processors[0].name, root=self.path, python=real
            )
        )
        wrapper.chmod(0o755)

    @property
    def version(self) -> str:
        """Of its Python, as 3.13."""
        (real,) = (self.path / "usr/bin").glob("python3.[0-9]*")
        return real.name.removeprefix("python")

    def board(self, processor: Processor) -> Board:
        """The environment, on this processor."""
        cores = len(os.sched_getaffinity(0))
        (self.path / "proc" / "cpuinfo").write_text(processor.cpuinfo(cores))
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return Board(
            self.environment / "bin" / "python3",
            {
                "S4EDGE_EMULATED": "1", "QEMU_CPU": processor.name, "HOME": str(home),
                "LANG": "C.UTF-8", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": "",
            },
            emulated=True,
        )  # fmt: skip

    def install(self, wheel: Path, onnxruntime: str) -> None:
        """Make the environment as on a board, with venv and pip, and install the wheel.

        Raises:
            CalledProcessError: pip failed.
        """
        wanted = [onnxruntime, _dependencies()]
        made_once(self.wheels, [wanted, self.version], lambda: self._download(wheel, onnxruntime))
        board = self.board(self.target.processors[0])
        pip = next((self.path / "usr/share/python-wheels").glob("pip-*.whl")) / "pip"
        install = (pip, "install", "--quiet", "--no-compile", "--no-index")
        links = ("--find-links", self.wheels)

        def make() -> None:
            of_system = () if self.target.wheels else ("--system-site-packages",)
            python = Board(self.path / "usr/bin/python3", board.environment)
            python.call("-m", "venv", "--without-pip", *of_system, self.environment)
            board.call(*install, *links, wheel)

        key = [wanted, self.version, self.folder]
        fresh = not self.environment.is_dir()
        made_once(self.environment, key, make)
        if not fresh:
            board.call(*install, "--no-deps", "--force-reinstall", wheel)

    def _download(self, wheel: Path, onnxruntime: str) -> None:
        if self.target.wheels:
            wanted: list[object] = [wheel, f"onnxruntime=={onnxruntime}"]
        else:
            wanted = [each for each in _dependencies() if not each.startswith(("numpy", "onnx"))]
        self.pip("download", "--dest", self.wheels, *wanted)

    def pip(self, command: str, *arguments: object) -> None:
        """Call this machine's pip, ``download`` or ``install``, for the target's wheels.

        Raises:
            CalledProcessError: it failed, or there is no wheel.
        """
        machine = self.target.wheels or "armv7l"
        tags = ("manylinux2014", *(f"manylinux_2_{minor}" for minor in GLIBC))
        run(
            *(sys.executable, "-m", "pip", "--disable-pip-version-check", command, "--quiet"),
            *("--only-binary=:all:", f"--python-version={self.version}"),
            *(f"--platform={tag}_{machine}" for tag in tags),
            *arguments,
        )


def _dependencies() -> list[str]:
    return [each for each in importlib.metadata.requires("s4edge") or () if "extra" not in each]
