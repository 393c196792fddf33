"""How much memory this process has, and has had at most."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from s4edge.bench.machine.kernel_files import read_text


def peak_rss_bytes(status: Path = Path("/proc/self/status")) -> int:
    """Give the peak resident memory of the current process, in bytes.

    Linux's ``VmHWM`` comes first: ``ru_maxrss`` there survives exec, so that a child started
    by a large process would report its parent's peak as its own.

    Args:
        status: the kernel's account of the process.
    """
    found = _kilobytes(status).get("VmHWM")
    if found is not None:
        return found
    # Imported here because only POSIX has it.
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@dataclasses.dataclass(frozen=True)
class MemoryUse:
    """Memory of a process at this moment, in bytes; None where the kernel does not tell.

    Attributes:
        rss_bytes: resident, all of it.
        pss_bytes: the same, with what several processes share divided among them.
        private_bytes: what this process alone has.
    """

    rss_bytes: int | None = None
    pss_bytes: int | None = None
    private_bytes: int | None = None


def memory_use(process: Path = Path("/proc/self")) -> MemoryUse:
    """Read what the kernel says about the current process.

    Args:
        process: its folder.
    """
    rollup = _kilobytes(process / "smaps_rollup")
    # Counted page by page there; /proc/PID/status may be off by some pages a core.
    rss = rollup.get("Rss", _kilobytes(process / "status").get("VmRSS"))
    private = [rollup[key] for key in ("Private_Clean", "Private_Dirty") if key in rollup]
    return MemoryUse(rss, rollup.get("Pss"), sum(private) if private else None)


def _kilobytes(path: Path) -> dict[str, int]:
    """Give the lines ``Name:  1234 kB`` of a file, in bytes."""
    found = {}
    for line in (read_text(path) or "").splitlines():
        name, _, value = line.partition(":")
        number, _, unit = value.strip().partition(" ")
        if unit == "kB" and number.isdigit():
            found[name] = int(number) * 1024
    return found
