"""How sure a ratio of two models' times is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from s4edge.bench.quantities import Amount

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Ratio:
    """The time of one model over that of another.

    Attributes:
        value: the median over rounds.
        low: lower end of the interval, None where there were too few rounds for one.
        high: its upper end.
        confidence: how often such intervals hold the ratio, at least.
    """

    OPTIONAL = ()

    value: Amount
    low: Amount | None
    high: Amount | None
    confidence: Amount = CONFIDENCE


def paired_ratio(times: Sequence[float], first: Sequence[float]) -> Ratio:
    """Compare two models that were measured side by side, round by round.

    The models of a round ran within a moment of each other, so that whatever slowed the machine
    slowed both: each round gives one ratio. The value is the median of these. The interval is the
    one between two of their order statistics, after the sign test: its confidence is that of the
    binomial distribution, whatever the ratios' own is, and rounds that something disturbed do not
    move it.

    Args:
        times: time per sample of the one, one number a round.
        first: those of the other, at least as many.
    """
    logs = np.sort([math.log(one / other) for one, other in zip(times, first)])
    low, high = None, None
    skipped = _outside(len(logs))
    if skipped is not None:
        low, high = float(np.exp(logs[skipped])), float(np.exp(logs[-1 - skipped]))
    return Ratio(float(np.exp(np.median(logs))), low, high)


def _outside(count: int) -> int | None:
    """How many order statistics may lie outside at each end, None where even none is too many."""
    tail, skipped = 0.0, -1
    while skipped + 1 < count:
        tail += math.comb(count, skipped + 1) / 2.0**count
        if 2 * tail > 1 - CONFIDENCE:
            break
        skipped += 1
    return skipped if skipped >= 0 else None
