"""What goes wrong with models as C, and what s4edge says of it: one line each.

As a script it shows them:

    python tests/cli/c_mistakes.py
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import numpy as np
from s4edge_command import SCRIPT, Outcome, call

import s4edge
from s4edge.model.sequence_model import SequenceModel
from s4edge.training.initial import initial_model

# A disk of 100 kB that only the command sees.
_SMALL_DISK = 'mount -t tmpfs -o size=100k tmpfs "$1" || exit 77; shift; exec "$@"'
_ALONE = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _SMALL_DISK, "sh", "disk")
# A compiler that fails as compilers do, at length.
_FAILING = """#!/bin/sh
case "$1" in -dump*|--version) exec gcc "$@" ;; esac
for i in 1 2 3; do echo "m.c:$i:1: error: unknown type name 'floot'" >&2; done
exit 1
"""


@dataclass(frozen=True)
class Mistake:
    """Something that goes wrong.

    Attributes:
        name: in words.
        command: of s4edge.
        says: part of the line.
        environment: variables that are set, too.
        around: a command that runs it.
        needs: a program without which it cannot be tried.
    """

    name: str
    command: str
    says: str
    environment: Mapping[str, str] = field(default_factory=dict)
    around: tuple[str, ...] = ()
    needs: str = "gcc"


_NOWHERE = {"PATH": "/no/such/folder", "CC": ""}
MISTAKES = (
    Mistake("a model that cannot stream", "export instance.safetensors --c -o m.c",
            "no C can be written: its last norm (instance) takes statistics over the whole"),
    Mistake("no compiler, asked for", "export model.safetensors --c --compile -o out.c",
            "no C compiler is here", _NOWHERE),
    Mistake("no compiler, needed", "bench m.c", "no C compiler is here", _NOWHERE),
    Mistake("a compiler that is not here", "export model.safetensors --c --compile nocc -o out.c",
            "the compiler nocc is not here"),
    Mistake("a compiler that does not work", "bench m.c",
            "the compiler false does not work: exit status 1", {"CC": "false"}),
    Mistake("a compiler that makes nothing", "export model.safetensors --c --compile true -o out.c",
            "true cannot compile out.c: it made no library"),
    Mistake("a compiler that fails at length", "bench m.c", "unknown type name 'floot'",
            {"CC": "./failing-cc"}),
    Mistake("C that is broken", "bench broken.c",
            "broken.c is compiled, but not as s4edge wrote it"),
    Mistake("C of somebody else", "bench foreign.c", "was not written by s4edge"),
    Mistake("a library of somebody else", "bench foreign.so", "is no library of s4edge"),
    Mistake("no library at all", "run text.so x.npy", "is no shared library"),
    Mistake("half a library", "run half.so x.npy", "is truncated"),
    Mistake("a library for another machine", "bench arm.so",
            "is for 64-bit ARM, not for this machine", needs="aarch64-linux-gnu-gcc"),
    Mistake("a full disk", "export model.safetensors --c -o disk/out.c",
            "cannot write disk/out.c: No space left on device", around=_ALONE, needs="unshare"),
    Mistake("a full disk, compiled", "export model.safetensors --c --compile -o disk/out.c",
            "No space left on device", around=_ALONE, needs="unshare"),
    Mistake("a name that is no C identifier", "export model.safetensors --c -o 3d.c",
            "which is no C identifier"),
    Mistake("a name that is no ASCII", "export model.safetensors --c -o naïve.c",
            "which is no C identifier"),
    Mistake("a word of C as a name", "export model.safetensors --c -o double.h",
            "name a .c file"),
)  # fmt: skip


def prepare(folder: Path) -> None:
    """The files that the commands name; ``gcc`` is there."""
    model = initial_model(1, 10, d_model=64, layers=2, state=16, seed=0)
    s4edge.save(model, folder / "model.safetensors")
    config = dataclasses.replace(model.config, final_norm="instance")
    s4edge.save(SequenceModel(config), folder / "instance.safetensors")
    small = initial_model(1, 3, d_model=4, layers=1, state=4, seed=0)
    built = s4edge.export_c(small, folder / "m.c", compiler="gcc -O0", compiled=True).library
    assert built is not None
    (folder / "half.so").write_bytes(built.read_bytes()[: built.stat().st_size // 2])
    built.unlink()
    (folder / "broken.c").write_text((folder / "m.c").read_text().replace("void m_init", "void m"))
    shutil.copy(folder / "m.h", folder / "broken.h")
    (folder / "foreign.c").write_text("int f(void) { return 0; }\n")
    foreign = ["gcc", "-shared", "-fPIC", "foreign.c", "-o", "foreign.so"]
    subprocess.run(foreign, cwd=folder, check=True)
    (folder / "text.so").write_text("no library\n")
    (folder / "failing-cc").write_text(_FAILING)
    (folder / "failing-cc").chmod(0o755)
    np.save(folder / "x.npy", np.zeros((5, 1), np.float32))
    if shutil.which("aarch64-linux-gnu-gcc"):
        s4edge.export_c(small, folder / "arm.c", compiler="aarch64-linux-gnu-gcc", compiled=True)
    (folder / "disk").mkdir()


def outcome(mistake: Mistake, folder: Path) -> Outcome | str:
    """How it ends; or why it cannot be tried."""
    if shutil.which(mistake.needs) is None:
        return f"no {mistake.needs} here"
    environment = {"CC": "gcc -O0", "XDG_CACHE_HOME": str(folder / "cache"), **mistake.environment}
    with patch.dict(os.environ, environment):
        if not mistake.around:
            return call(folder, *mistake.command.split())
        command = [*mistake.around, sys.executable, str(SCRIPT), *mistake.command.split()]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode == 77 or "unshare:" in done.stderr:
        return "no file system of its own may be mounted here"
    return Outcome(done.returncode, done.stdout, done.stderr)


def main() -> None:
    """Show all."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for mistake in MISTAKES:
            found = outcome(mistake, folder)
            print(f"{mistake.name}\n    $ s4edge {mistake.command}")
            said = found if isinstance(found, str) else (found.stdout + found.stderr).rstrip()
            print("    " + said.replace("\n", "\n    "))


if __name__ == "__main__":
    main()
