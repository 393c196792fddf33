"""Who sees which sequences."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s4edge.data.dataset import Data
from s4edge.errors import S4EdgeError
from s4edge.training.batches import Sequences, split
from s4edge.training.processes import Processes


def sequences(count: int = 23) -> Sequences:
    x = np.arange(count, dtype=np.float32)[:, None, None].repeat(4, axis=1)
    return Sequences.of(Data(x, np.arange(count) % 3, None, "test"))


def seen(epoch: int, seed: int = 0, processes: Processes | None = None) -> list[list[float]]:
    batches = sequences().epoch(5, seed, epoch, processes or Processes())
    return [[] if b.empty else b.x[:, 0, 0].tolist() for b in batches]


def test_an_epoch_is_a_permutation_that_seed_and_epoch_decide() -> None:
    assert sorted(chain(*seen(0))) == list(range(23))
    assert seen(1) == seen(1)
    assert seen(0) != seen(1)
    assert seen(0, seed=1) != seen(0)


@pytest.mark.parametrize("world", [2, 3, 7])
def test_processes_share_every_batch(world: int) -> None:
    shares = [seen(0, processes=Processes(rank, world)) for rank in range(world)]
    for index, batch in enumerate(seen(0)):
        assert list(chain(*(share[index] for share in shares))) == batch


def test_counts_are_of_the_whole_batch() -> None:
    x = np.zeros((6, 10, 1), np.float32)
    data = Sequences.of(Data(x, None, np.array([1, 2, 3, 4, 5, 6]), "test"))
    batch = data.batch(np.array([0, 2, 5]), Processes(1, 2))
    assert (batch.sequences, batch.steps) == (3, 10)
    assert batch.lengths is not None
    assert batch.lengths.tolist() == [3, 6]


def test_targets_are_single_precision() -> None:
    y = np.zeros((3, 4, 1))
    assert (
        Sequences.of(Data(np.zeros((3, 4, 1), np.float32), y, None, "t")).y.dtype == torch.float32
    )


def test_every_class_gives_its_share() -> None:
    y = np.repeat([0, 1, 2], [50, 30, 20])
    data = Data(np.arange(100, dtype=np.float32).reshape(100, 1, 1), y, None, "test")
    train, held_out = split(data, 0.2, seed=0)
    assert held_out is not None
    assert sorted([*train.x.ravel(), *held_out.x.ravel()]) == list(range(100))
    np.testing.assert_allclose(np.bincount(held_out.y), [10, 6, 4], atol=1)
    assert split(data, 0.0, seed=0) == (data, None)
    # Spread over all of them, from the first class to the last.
    few = Data(data.x[:10], np.array([1, 1, 2, 1, 1, 1, 1, 0, 1, 1]), None, "test")
    for seed in range(5):
        held_out = split(few, 0.2, seed)[1]
        assert held_out is not None
        assert sorted(held_out.y) == [0, 2]
    with pytest.raises(S4EdgeError, match="too few"):
        split(data.part(slice(0, 3)), 0.1, seed=0)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=60),
    st.floats(0.01, 0.9),
    st.integers(0, 2**31),
    st.booleans(),
)
def test_any_split(y: list[int], fraction: float, seed: int, labels: bool) -> None:
    x = np.arange(len(y), dtype=np.float32)[:, None, None]
    data = Data(x, np.array(y) if labels else None, None, "test")
    count = round(fraction * len(y))
    if not 0 < count < len(y):
        with pytest.raises(S4EdgeError, match="too few"):
            split(data, fraction, seed)
        return
    train, held_out = split(data, fraction, seed)
    assert held_out is not None
    assert len(held_out) == count
    assert sorted([*train.x.ravel(), *held_out.x.ravel()]) == list(range(len(y)))
    again = split(data, fraction, seed)[0]
    assert np.array_equal(again.x, train.x)
    if labels:
        expected = np.bincount(y, minlength=5) * (count - 1) / (len(y) - 1)
        assert (np.abs(np.bincount(held_out.y, minlength=5) - expected) < 2).all()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 40), st.integers(1, 50))
def test_any_share(count: int, world: int) -> None:
    rows = [list(range(count))[Processes(rank, world).share(count)] for rank in range(world)]
    assert list(chain(*rows)) == list(range(count))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_parts_of_a_share() -> None:
    x = torch.arange(11.0)[:, None, None]
    data = Sequences(x, torch.arange(11), torch.ones(11, dtype=torch.int64), 2 * x)
    batch = data.batch(np.arange(11), Processes(1, 2))
    parts = list(batch.parts(4))
    assert [part.rows for part in parts] == [slice(5, 9), slice(9, 11)]
    for part in parts:
        assert part.x.ravel().tolist() == list(range(11))[part.rows]
        assert part.aim is not None
        assert torch.equal(part.aim, 2 * part.x)
        assert (part.sequences, part.steps) == (11, 11)


def test_a_process_without_a_sequence_has_one_that_does_not_count() -> None:
    batch = sequences().batch(np.array([7]), Processes(0, 2))
    assert batch.empty
    assert batch.x[:, 0, 0].tolist() == [7]
    assert not sequences().batch(np.array([7]), Processes(1, 2)).empty
