"""Who runs when, and for how long."""

from __future__ import annotations

import dataclasses

# A turn is about this long: short enough that what disturbs a machine meets all models alike.
_TURN_SECONDS = 0.05
# Enough for an interval around a ratio; at most so many that answers stay small.
_LEAST_ROUNDS, _MOST_ROUNDS = 10, 1000
# A turn of a slow graph still has so many runs, if need be by making fewer turns, but this many.
_RUNS_A_TURN, _FEWEST_ROUNDS = 5, 6
# Share of the time that runs at pace get, and how many a turn of them should have.
_PACED_SHARE = 1 / 3
_PACED_RUNS = 20
# Fewer runs at pace than this say nothing.
LEAST_PACED_RUNS = 3


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How the measuring is divided.

    Attributes:
        rounds: turns of every model.
        turn_seconds: time of one turn, back to back.
    """

    rounds: int
    turn_seconds: float


@dataclasses.dataclass(frozen=True)
class Pace:
    """Turns at pace of one model.

    Attributes:
        period_us: µs from one due time to the next.
        turns: how many rounds have one.
        runs: runs in each of them.
    """

    period_us: float
    turns: int
    runs: int

    def is_due(self, turn: int, rounds: int) -> bool:
        """Whether this round is one of those, which lie evenly among all."""
        return (turn + 1) * self.turns // rounds > turn * self.turns // rounds


def schedule(duration: float, slowest_run_us: float, paced: bool) -> Schedule:
    """Divide ``duration`` seconds into rounds.

    Args:
        duration: of measuring one model.
        slowest_run_us: µs that a run of the slowest model takes.
        paced: whether runs at pace come out of the same time.
    """
    seconds = duration * (1 - _PACED_SHARE) if paced else duration
    rounds = min(max(int(seconds / _TURN_SECONDS), _LEAST_ROUNDS), _MOST_ROUNDS)
    # A clock that stands still says nothing about how many fit.
    fit = int(seconds / (_RUNS_A_TURN * max(slowest_run_us, 1e-3) / 1e6))
    rounds = max(min(rounds, fit), _FEWEST_ROUNDS)
    # Even, so that each model goes first as often as it goes last.
    rounds += rounds % 2
    return Schedule(rounds, seconds / rounds)


def pace(duration: float, period_us: float, run_us: float, rounds: int) -> Pace | None:
    """Place the turns at pace of one model; None where too few runs fit.

    Args:
        duration: seconds of measuring it.
        period_us: µs from one due time to the next.
        run_us: µs that a run takes, which counts where it cannot keep up.
        rounds: turns of every model.
    """
    seconds = duration * _PACED_SHARE
    each = max(period_us, run_us) / 1e6
    runs = int(seconds / each)
    if runs < LEAST_PACED_RUNS:
        return None
    turns = min(max(runs // _PACED_RUNS, 1), rounds)
    return Pace(period_us, turns, runs // turns)
