"""Threads that each take a part of the work, instead of all taking a share of every operation.

They do not wait for each other in the middle: on a machine that others use, threads that share an
operation stand still whenever one of them does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

Part = TypeVar("Part")
Result = TypeVar("Result")


def threads_for(x: Tensor) -> int:
    """Parts of a batch that are computed at a time: torch's threads, one where these do not help.

    Autocast is a setting of each thread's own.
    """
    return 1 if x.is_cuda or torch.is_autocast_enabled("cpu") else torch.get_num_threads()


def each_in_order(
    work: Callable[[Part], Result], parts: Sequence[Part], threads: int
) -> Iterator[Result]:
    """What ``work`` gives for each part, in their order.

    Args:
        work: with gradients enabled; where threads do it, each computes alone.
        parts: if there is one, the caller does it with all of torch's threads.
        threads: from `threads_for`.
    """
    if min(threads, len(parts)) <= 1:
        yield from map(work, parts)
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # of those that begin from now on, too
    try:
        with ThreadPoolExecutor(min(threads, len(parts)), "s4edge-part") as pool:
            try:
                yield from pool.map(work, parts)
            except BaseException:  # an interrupt should not wait for parts not yet begun
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        torch.set_num_threads(before)
