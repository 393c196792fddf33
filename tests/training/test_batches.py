"""Who sees which sequences."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch

from s4edge.errors import S4EdgeError
from s4edge.training.batches import Sequences, split
from s4edge.training.data import Data
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
    with pytest.raises(S4EdgeError, match="too few"):
        split(data.part(slice(0, 3)), 0.1, seed=0)
