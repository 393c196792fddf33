"""Runs that are due at a steady rate, as samples from a microphone are."""

from __future__ import annotations

import time
from collections.abc import Callable

from s4edge.bench.latencies import Latencies


def run_paced(
    run: Callable[[], object],
    period_ns: int,
    runs: int,
    deadline_ns: int,
    response: Latencies,
    jitter: Latencies,
    clock: Callable[[], int] = time.perf_counter_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Make runs that are due one period after another, and give how many missed the deadline.

    A run that is late makes the next one late, too, once it is due: samples do not wait.

    Args:
        run: one run, with the samples of one period.
        period_ns: ns from one due time to the next.
        runs: how many to make.
        deadline_ns: ns from its due time by which a run has to be over.
        response: takes in the time from due to over of each run.
        jitter: takes in how much later than due a run began, of those that were waited for.
        clock: ns that never go back.
        sleep: waits for so many seconds.
    """
    missed = 0
    due = clock() + period_ns
    for _ in range(runs):
        now = clock()
        if now < due:
            while now < due:
                sleep((due - now) / 1e9)
                now = clock()
            jitter.add(now - due)
        run()
        took = clock() - due
        response.add(took)
        missed += took > deadline_ns
        due += period_ns
    return missed
