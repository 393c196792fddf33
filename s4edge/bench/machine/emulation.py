"""Whether this process runs on the processor that it believes to run on."""

from __future__ import annotations

import os
import struct
import sys
import threading
from pathlib import Path

# Set to 1 where an emulator hides too well: figures are then labelled as no speed.
VARIABLE = "S4EDGE_EMULATED"


def is_emulated(root: Path = Path("/"), interpreter: Path | None = None) -> bool:
    """Whether an emulator of another processor, such as qemu-user or Rosetta, runs this process.

    An emulator shows its guest a /proc/self of its own, but not behind the thread's number: there
    is the program that the kernel has really started, which is for another processor than Python.

    Args:
        root: folder that holds ``proc``.
        interpreter: the file of the running Python; None for what Python says.
    """
    if os.environ.get(VARIABLE) is not None:
        return os.environ[VARIABLE] not in ("", "0")
    started = _machine(root / f"proc/self/task/{threading.get_native_id()}/exe")
    believed = (_machine(root / "proc/self/exe"), _machine(interpreter or Path(sys.executable)))
    return started is not None and any(each not in (None, started) for each in believed)


def _machine(program: Path) -> tuple[int, int] | None:
    """Give the word size and the processor of an ELF file's header, None for other files."""
    try:
        with open(program, "rb") as file:
            header = file.read(20)
    except OSError:
        return None
    if len(header) < 20 or header[:4] != b"\x7fELF":
        return None
    order = ">" if header[5] == 2 else "<"
    (machine,) = struct.unpack_from(order + "H", header, 18)
    return header[4], machine
