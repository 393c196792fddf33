"""The command ``s4edge``, called in this process or as one of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from s4edge.cli.main import cli

SCRIPT = Path(sysconfig.get_path("scripts")) / "s4edge"


@dataclass(frozen=True)
class Outcome:
    """How a call ended. ``crash`` is an exception that would have been a traceback."""

    status: int
    stdout: str
    stderr: str
    crash: BaseException | None = None

    @property
    def last_line(self) -> str:
        """The last thing it said to the person."""
        return (self.stderr.strip().splitlines() or [""])[-1]


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Make a folder the current one for a while."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def call(folder: Path, *arguments: str) -> Outcome:
    """Call it in this process with ``folder`` as the current one."""
    with inside(folder):
        result = CliRunner().invoke(cli, arguments, prog_name="s4edge")
    crash = None if isinstance(result.exception, SystemExit) else result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr, crash)


def answer(folder: Path, *arguments: str) -> dict[str, Any]:
    """What a call says with ``--json``, which must go well."""
    done = call(folder, *arguments, "--json")
    assert done.status == 0, done.stderr
    return json.loads(done.stdout)


def call_process(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> Outcome:
    """Call the installed script, with pipes as its streams."""
    done = subprocess.run(
        [str(SCRIPT), *arguments],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        timeout=120,
        check=False,
    )
    return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


def read_terminal(here: int) -> bytes:
    """What is shown on a pseudo-terminal until its last writer has gone."""
    shown = b""
    while True:
        try:
            part = os.read(here, 4096)
        except OSError:  # Linux says so at the end
            return shown
        if not part:
            return shown
        shown += part


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder; a file's with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }
