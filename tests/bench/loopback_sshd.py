"""A real sshd on 127.0.0.1, with keys and a configuration made for one test run."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HOST = "127.0.0.1"
# Where packages put it; it is often not on a user's PATH.
_PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/lib/ssh")


@dataclass
class Sshd:
    """A running sshd.

    Attributes:
        folder: holds its files, and the temporary folders of its sessions in ``tmp``.
        port: where it listens.
        keys: names of the keys that it lets in.
    """

    folder: Path
    port: int
    keys: list[str] = field(default_factory=list)

    def options(self, key: str = "plain", known: str = "known") -> list[str]:
        """What ssh's ``-o`` needs to come in with a key, trusting nothing of the user's own."""
        return [
            f"Port={self.port}",
            f"IdentityFile={self.folder / key}",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            f"UserKnownHostsFile={self.folder / known}",
            "GlobalKnownHostsFile=none",
            "StrictHostKeyChecking=yes",
        ]

    def let_in(self, key: str, wrapper: str) -> None:
        """Make a key whose sessions run a command, with the asked one in SSH_ORIGINAL_COMMAND."""
        make_key(self.folder / key)
        self._allow(key, wrapper)

    def _allow(self, key: str, wrapper: str) -> None:
        quoted = wrapper.replace("\\", "\\\\").replace('"', '\\"')
        line = f'command="{quoted}" {(self.folder / f"{key}.pub").read_text()}'
        with open(self.folder / "allowed", "a") as file:
            file.write(line)
        self.keys.append(key)

    @property
    def left_behind(self) -> list[str]:
        """What sessions have left in their temporary folder."""
        return sorted(path.name for path in (self.folder / "tmp").iterdir())


def make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


@contextlib.contextmanager
def running_sshd(folder: Path) -> Iterator[Sshd]:
    """Start one; skip the test with the reason where that cannot be done here."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *_PLACES))
    program = shutil.which("sshd", path=path)
    if program is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        pytest.skip("needs OpenSSH's sshd, ssh and ssh-keygen")
    if os.getuid() == 0:
        try:
            # sshd's own, which a service manager makes at boot.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        except OSError as error:
            pytest.skip(f"needs /run/sshd: {error.strerror}")
    (folder / "tmp").mkdir()
    for key in ("host", "other_host", "plain", "unknown"):
        make_key(folder / key)
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = int(free.getsockname()[1])
    sshd = Sshd(folder, port)
    for known, key in (("known", "host"), ("changed", "other_host"), ("none_known", None)):
        text = "" if key is None else f"[{HOST}]:{port} {(folder / f'{key}.pub').read_text()}"
        (folder / known).write_text(text)
    sshd._allow("plain", in_folder(folder / "tmp"))
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress {HOST}\nHostKey {folder / 'host'}\n"
        f"AuthorizedKeysFile {folder / 'allowed'}\nPidFile none\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        "MaxStartups 100\n"
    )
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [program, "-D", "-e", "-f", str(folder / "sshd_config")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Where the tests run in the background, Ctrl-C may be ignored, and sessions inherit.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        end = time.monotonic() + 20
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > end:
                said = (folder / "log").read_text(errors="replace").strip()
                pytest.skip(f"sshd does not start here: {said[-200:]}")
            time.sleep(0.05)
        yield sshd
    finally:
        process.terminate()
        process.wait(10)


def in_folder(temporary: Path, before: str = "") -> str:
    """A wrapper that runs what was asked for, with its temporary folders in ``temporary``."""
    return (
        f'{before}export TMPDIR={shlex.quote(str(temporary))}; exec sh -c "$SSH_ORIGINAL_COMMAND"'
    )


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex((HOST, port)) == 0
