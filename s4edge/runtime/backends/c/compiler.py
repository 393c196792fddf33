"""The system's C compiler, or one that is named, makes a shared library of a model's C file."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from s4edge.errors import S4EdgeError
from s4edge.files import replacing

_USUAL = ("cc", "gcc", "clang")
_LONGEST = 900  # seconds
# Multiply-adds in one instruction, where there is one: gcc does so by itself, clang when told.
_FLAGS = ("-O3", "-ffp-contract=fast", "-shared", "-fPIC", "-DS4EDGE_LIBRARY")
_ALIASES = {"amd64": "x86_64", "arm64": "aarch64", "i386": "i686", "i486": "i686", "i586": "i686"}


class CompilerError(S4EdgeError):
    """A compiler does not work, or not on this file."""


@dataclass(frozen=True)
class Compiler:
    """A C compiler.

    Attributes:
        command: how it is called, its own options with it.
        is_native: whether what it makes runs on this machine.
        version: what it says of itself.
    """

    command: tuple[str, ...]
    is_native: bool
    version: str

    def __str__(self) -> str:
        return " ".join(self.command)


def find_compiler(named: str | None = None) -> Compiler:
    """The compiler of that name, or the system's.

    Args:
        named: a command, maybe with options (``aarch64-linux-gnu-gcc -mcpu=cortex-a72``); without,
            the environment's CC, or cc, gcc, clang.

    Raises:
        S4EdgeError: there is none, or it does not run.
    """
    wanted = named or os.environ.get("CC") or ""
    try:
        command = shlex.split(wanted)
    except ValueError as error:
        raise S4EdgeError(f"the compiler {wanted!r} cannot be called: {error}") from error
    if not command:
        command = next(([name] for name in _USUAL if shutil.which(name)), [])
        if not command:
            raise S4EdgeError(
                f"no C compiler is here ({', '.join(_USUAL)}); install one (apt install gcc), or "
                "name one"
            )
    if shutil.which(command[0]) is None:
        raise S4EdgeError(f"the compiler {command[0]} is not here; install it or name another one")
    what = f"the compiler {' '.join(command)} does not work"
    try:
        machine = _call([*command, "-dumpmachine"], what).strip().split("-")[0]
        version = _call([*command, "--version"], what).partition("\n")[0]
    except CompilerError as error:
        raise CompilerError(f"{error}; name another one, or in the environment's CC") from error
    return Compiler(tuple(command), _same_machine(machine), version)


def compile_library(source: Path, library: Path, compiler: Compiler) -> None:
    """Make a shared library of a C file that s4edge wrote; the library is replaced as a whole.

    For this machine it is made for its very processor: another one of the kind may not run it.

    Raises:
        S4EdgeError: the compiler fails, or the library cannot be written.
    """
    with replacing(library) as temporary:
        own = ["-march=native"] if compiler.is_native else []
        program, *options = compiler.command
        files = [str(source), "-o", str(temporary), "-lm"]
        command = [program, *_FLAGS, *own, *options, *files]
        # By its name: a file that is exported is tried out in a folder that is gone then.
        what = f"{compiler} cannot compile {source.name}"
        try:
            _call(command, what)
        except CompilerError:
            # Some compilers of boards do not know their own processor.
            if not own:
                raise
            _call([word for word in command if word not in own], what)
        if not temporary.stat().st_size:
            raise CompilerError(f"{what}: it made no library and gave no reason")


def _call(command: list[str], what: str) -> str:
    """What a command prints; ``what`` fails where it fails."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LONGEST, check=False,
            errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise CompilerError(f"{what}: it is not done after {_LONGEST // 60} minutes") from error
    except OSError as error:
        raise CompilerError(f"{what}: {error.strerror or error}") from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        telling = [line for line in lines if "error" in line.lower()] or lines
        reason = telling[0] if telling else f"exit status {done.returncode}"
        raise CompilerError(f"{what}: {reason}")
    return done.stdout


def _same_machine(machine: str) -> bool:
    here = platform.machine().lower()
    machine = machine.lower()
    same = _ALIASES.get(here, here) == _ALIASES.get(machine, machine)
    # Compilers say "arm" where the kernel says "armv7l".
    return same or (here.startswith("armv") and machine.startswith("arm"))
