"""Memory that is freed is kept for the next tensor of that size.

glibc gives large blocks back to the system at once, and a fresh one costs a page fault per 4 kB:
of a training step on a CPU, every activation is one.
"""

from __future__ import annotations

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """For this process from now on; nothing happens where the C library is not glibc."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_MMAP_THRESHOLD, 1 << 30)
        mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)
