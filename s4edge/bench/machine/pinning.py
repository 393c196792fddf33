"""Which cores measure: the models on some of their own, the bench itself elsewhere."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from s4edge.bench.machine.kernel_files import read_int


def usable_cores() -> list[int] | None:
    """Give the numbers of the cores that this process may use, None where nobody tells."""
    try:
        return sorted(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not Linux, or not allowed
        return None


def choose_cores(threads: int, root: Path = Path("/")) -> list[int] | None:
    """Choose a core for each thread, or all there are where there are fewer.

    The strongest go first where a board has big and little ones, then the highest numbers: the
    kernel's own work is mostly on core 0.

    Returns:
        Their numbers, None where processes cannot be pinned.
    """
    usable = usable_cores()
    if usable is None:
        return None

    def strength(core: int) -> tuple[int, int]:
        folder = root / f"sys/devices/system/cpu/cpu{core}"
        return (read_int(folder / "cpu_capacity") or 0, core)

    chosen = sorted(sorted(usable, key=strength)[-threads:])
    return chosen if _may_pin(chosen) else None


@contextlib.contextmanager
def pinned(cores: Sequence[int] | None) -> Iterator[None]:
    """Keep the calling thread, and what it starts, on some cores; None for wherever it is."""
    before = usable_cores()
    if before is None or not cores:
        yield
        return
    _pin([0], cores)
    try:
        yield
    finally:
        _pin([0], before)


@contextlib.contextmanager
def out_of_the_way(cores: Sequence[int] | None) -> Iterator[None]:
    """Keep this process off some cores where there are others, with all of its threads."""
    before = usable_cores()
    others = sorted(set(before or ()) - set(cores or ()))
    if before is None or not cores or not others:
        yield
        return
    each = {}
    for thread in _threads():
        with contextlib.suppress(OSError):  # gone since
            each[thread] = os.sched_getaffinity(thread)
    _pin(list(each), others)
    try:
        yield
    finally:
        for thread in _threads():
            # Those started meanwhile have been kept off, too.
            _pin([thread], sorted(each.get(thread, before)))


def _threads() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc/self/task")]
    except OSError:
        return [0]


def _pin(threads: Sequence[int], cores: Sequence[int]) -> None:
    for thread in threads:
        with contextlib.suppress(OSError):  # gone since, or not allowed
            os.sched_setaffinity(thread, cores)


def _may_pin(cores: Sequence[int]) -> bool:
    before = usable_cores()
    try:
        os.sched_setaffinity(0, cores)
        os.sched_setaffinity(0, before or cores)
    except (AttributeError, OSError):
        return False
    return True
