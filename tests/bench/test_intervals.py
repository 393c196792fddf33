from __future__ import annotations

import numpy as np
import pytest

from s4edge.bench.intervals import paired_ratio


@pytest.mark.parametrize(
    # Ranks from printed tables of the sign test's interval for a median.
    ("rounds", "ranks"),
    [(6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (10, (2, 9)), (20, (6, 15)), (50, (18, 33))],
)
def test_interval_lies_between_the_tabled_ranks(rounds: int, ranks: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    ratios = rng.permutation(1 + np.arange(rounds) / 100)
    first = 50 + rng.random(rounds)
    found = paired_ratio(list(ratios * first), list(first))
    ordered = np.sort(ratios)
    assert found.low == pytest.approx(ordered[ranks[0] - 1])
    assert found.high == pytest.approx(ordered[ranks[1] - 1])
    assert found.value == pytest.approx(np.median(ratios), rel=1e-4)


def test_too_few_rounds_give_no_interval() -> None:
    for rounds in range(1, 6):
        found = paired_ratio([2.0] * rounds, [4.0] * rounds)
        assert (found.value, found.low, found.high) == (0.5, None, None)


def test_rounds_without_a_partner_do_not_count() -> None:
    assert paired_ratio([1.0, 2.0, 99.0], [1.0, 2.0]).value == 1.0


def test_holds_the_true_ratio_as_often_as_it_says() -> None:
    """A machine that drifts, jumps and is disturbed: both models feel it, in their own ways."""
    rng = np.random.default_rng(1)
    true, held, trials = 0.8, 0, 2000
    for _ in range(trials):
        machine = np.exp(np.cumsum(0.05 * rng.standard_normal(30)))
        machine[rng.integers(30) :] *= 1.5
        one, other = (machine * np.exp(0.02 * rng.standard_t(2, 30)) for _ in range(2))
        found = paired_ratio(list(true * one), list(other))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= true <= found.high
    # Binomial: 0.95 would be 1900 +- 10.
    assert held > 1870


def test_one_disturbed_round_moves_nothing() -> None:
    first = [50.0] * 20
    times = [40 + 0.01 * i for i in range(20)]
    quiet = paired_ratio(times, first)
    disturbed = paired_ratio([*times[:-1], 4000.0], first)
    assert (disturbed.value, disturbed.low, disturbed.high) == (quiet.value, quiet.low, quiet.high)
