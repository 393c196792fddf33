"""Work on many channels, batch by batch, on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from s4edge.arrays import Int

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def available_cores() -> int:
    """Cores that this process may use: OMP_NUM_THREADS of them, where the environment says so."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(asked)) if asked.isdecimal() and int(asked) else cores


def batches_of(channels: Int, size: int) -> list[Int]:
    """``channels`` (any number,) cut into consecutive batches of ``size``, the last one smaller."""
    return [channels[start : start + size] for start in range(0, len(channels), size)]


def map_batches(
    work: Callable[[Batch], Result], batches: Sequence[Batch], threads: int | None = None
) -> list[Result]:
    """``work`` on batches, of channels mostly, by one thread per core.

    Batches do not depend on the number of threads, so neither do the results. ``work`` should spend
    its time where Python's lock is not held: in numpy on arrays that are not small, in LAPACK
    through `s4edge.systems.lapack`. The caller limits BLAS to one thread.

    Args:
        work: takes one batch.
        batches: of channels from `batches_of`, or of something else.
        threads: as many as there are cores, unless given.

    Returns:
        What ``work`` gave for each batch, in order.
    """
    threads = min(threads or available_cores(), len(batches))
    if threads <= 1:
        return [work(each) for each in batches]
    with ThreadPoolExecutor(threads, "s4edge") as pool:
        try:
            return list(pool.map(work, batches))
        except BaseException:  # an interrupt, too, should not wait for batches not yet begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise
