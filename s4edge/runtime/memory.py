"""How much memory this process has had at most."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_rss_bytes(status: Path = Path("/proc/self/status")) -> int:
    """Give the peak resident memory of the current process, in bytes.

    Linux's ``VmHWM`` comes first: ``ru_maxrss`` there survives exec, so that a child started
    by a large process would report its parent's peak as its own.

    Args:
        status: the kernel's account of the process.
    """
    try:
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:  # no Linux, or no /proc
        pass
    # Imported here because only POSIX has it.
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
