"""What a measurement was made on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np

from s4edge.bench.machine.emulation import is_emulated
from s4edge.bench.machine.kernel_files import read_text
from s4edge.bench.results import Device
from s4edge.runtime.backends import versions


def describe_device(root: Path = Path("/")) -> Device:
    """Describe the machine and the software that decide how fast a graph runs.

    Args:
        root: folder that holds the kernel's ``proc``; whatever is missing there is asked of
            the Python standard library.

    Returns:
        ``cpu`` (model name, on a board the board's name), ``architecture``, ``cores`` (those
        that this process may use), ``memory_bytes`` (physical; None if unknown), ``os``,
        ``python``, ``numpy``, ``onnxruntime`` (versions; None of what is not installed),
        ``emulated`` (see `s4edge.bench.machine.emulation`).
    """
    return {
        "cpu": _cpu(root),
        "architecture": platform.machine(),
        "cores": _cores(),
        "memory_bytes": _memory_bytes(),
        "os": f"{platform.system()} {platform.release()}".strip(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": versions()["onnxruntime"],
        "emulated": is_emulated(root),
    }


def _cpu(root: Path) -> str:
    # A board's own name says more than its cores' ("ARMv7 Processor rev 3"), so it goes first.
    board = read_text(root / "proc/device-tree/model")
    if board:
        return board
    facts: dict[str, str] = {}
    for line in (read_text(root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    for key in ("Model", "Hardware", "model name"):
        if facts.get(key):
            return facts[key]
    return platform.processor() or platform.machine() or "unknown"


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
