from __future__ import annotations

import itertools
import time

import pytest

from s4edge.bench.latencies import Latencies
from s4edge.bench.pace import run_paced
from s4edge.bench.schedule import pace, schedule


class Clock:
    """Time that passes only where something takes some."""

    def __init__(self, oversleep_ns: int = 0) -> None:
        self.now = 1_000_000
        self.oversleep_ns = oversleep_ns
        self.slept = 0

    def __call__(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept += 1
        self.now += round(seconds * 1e9) + self.oversleep_ns


def paced(times_ns: list[int], clock: Clock, period_ns: int, deadline_ns: int) -> tuple:
    left = iter(times_ns)

    def run() -> None:
        clock.now += next(left)

    response, jitter = Latencies(), Latencies()
    missed = run_paced(
        run, period_ns, len(times_ns), deadline_ns, response, jitter, clock, clock.sleep
    )
    return missed, response.summary(), jitter.summary()


def test_runs_that_keep_up() -> None:
    clock = Clock(oversleep_ns=60_000)
    missed, response, jitter = paced([100_000] * 10, clock, 250_000, 200_000)
    assert missed == 0
    assert response.least_ns == response.greatest_ns == 160_000
    assert jitter.runs == 10
    assert jitter.least_ns == jitter.greatest_ns == 60_000
    assert clock.slept == 10


def test_a_late_run_makes_the_next_ones_late() -> None:
    # Due at 0, 250, 500, 750 µs; the first takes 600, the others 100: over at 600, 700, 800, 900.
    missed, response, jitter = paced([600_000, *[100_000] * 3], Clock(), 250_000, 200_000)
    assert missed == 3
    assert response.total_ns == 600_000 + 450_000 + 300_000 + 150_000
    # Of those that were waited for: the first alone.
    assert jitter.runs == 1


def test_runs_that_cannot_keep_up_fall_behind() -> None:
    missed, response, jitter = paced([300_000] * 5, Clock(), 250_000, 10_000_000)
    assert missed == 0
    assert response.greatest_ns == 5 * 300_000 - 4 * 250_000
    assert jitter.runs == 1


def test_a_deadline_just_met_is_met() -> None:
    missed, _, _ = paced([200_000, 200_001], Clock(), 250_000, 200_000)
    assert missed == 1


def test_sleep_that_ends_early_is_slept_on() -> None:
    clock = Clock(oversleep_ns=-1000)
    real, naps = clock.sleep, []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        clock.oversleep_ns = -1000 if len(naps) % 2 else 0
        real(seconds)

    response, jitter = Latencies(), Latencies()
    run_paced(lambda: None, 250_000, 4, 100_000, response, jitter, clock, sleep)
    assert len(naps) == 8
    assert response.summary().least_ns == 1  # nothing before it was due


def test_keeps_the_pace_of_a_real_clock() -> None:
    response, jitter = Latencies(), Latencies()
    begin = time.perf_counter()
    run_paced(lambda: None, 2_000_000, 50, 10**9, response, jitter)
    assert time.perf_counter() - begin >= 0.1
    assert jitter.summary().runs <= 50


@pytest.mark.parametrize("duration", [0.05, 3.0, 60.0, 86_400.0])
@pytest.mark.parametrize("run_us", [1e-3, 50.0, 5000.0, 2e6])
def test_schedule_spends_the_time(duration: float, run_us: float) -> None:
    plan = schedule(duration, run_us, paced=False)
    assert plan.rounds * plan.turn_seconds == pytest.approx(duration)
    assert plan.rounds % 2 == 0
    assert 6 <= plan.rounds <= 1000
    # A turn of a slow model is a run at least, so that little more than the least is made.
    if run_us / 1e6 > duration:
        assert plan.rounds == 6
    share = schedule(duration, run_us, paced=True)
    assert share.rounds * share.turn_seconds == pytest.approx(duration * 2 / 3)


def test_turns_at_pace_lie_evenly() -> None:
    plan = pace(duration=3.0, period_us=10_000, run_us=50, rounds=40)
    assert plan is not None
    assert plan.turns * plan.runs == pytest.approx(100, abs=plan.turns)
    due = [turn for turn in range(40) if plan.is_due(turn, 40)]
    assert len(due) == plan.turns
    gaps = {later - earlier for earlier, later in itertools.pairwise(due)}
    assert max(gaps) - min(gaps) <= 1
    quick = pace(duration=3.0, period_us=62.5, run_us=50, rounds=40)
    assert quick is not None
    assert all(quick.is_due(turn, 40) for turn in range(40))
    assert quick.turns * quick.runs == pytest.approx(16_000, rel=0.01)


def test_pace_of_a_model_that_cannot_keep_up_does_not_take_longer() -> None:
    plan = pace(duration=3.0, period_us=100, run_us=1000, rounds=40)
    assert plan is not None
    assert plan.turns * plan.runs <= 1000


def test_too_slow_a_pace_for_the_time() -> None:
    assert pace(duration=3.0, period_us=1e6, run_us=50, rounds=40) is None
