"""Parts of a batch by threads of their own: what one pass over all of it gives."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from s4edge.model.dropout import Dropout
from s4edge.training.batches import Batch
from s4edge.training.initial import initial_model
from s4edge.training.threads import each_in_order, threads_for
from s4edge.training.trainable import Trainable

SEQUENCES, LENGTH, WIDTH = 11, 2048, 16


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_in_order() -> None:
    torch.set_num_threads(2)
    met = threading.Barrier(2, timeout=20)
    alone: list[int] = []

    def work(part: int) -> int:
        if part < 2:
            met.wait()  # two at a time
        alone.append(torch.get_num_threads())
        return part**2

    assert list(each_in_order(work, range(5), 2)) == [0, 1, 4, 9, 16]
    assert alone == [1] * 5
    assert torch.get_num_threads() == 2
    assert list(each_in_order(lambda part: torch.get_num_threads(), [0], 2)) == [2]


def test_a_part_that_fails() -> None:
    torch.set_num_threads(2)

    def work(part: int) -> int:
        if part == 1:
            raise ValueError("no")
        return part

    with pytest.raises(ValueError, match="no"):
        list(each_in_order(work, range(4), 2))
    assert torch.get_num_threads() == 2


def test_where_threads_do_not_help() -> None:
    torch.set_num_threads(3)
    x = torch.zeros(1)
    assert threads_for(x) == 3
    with torch.autocast("cpu", torch.bfloat16):
        assert threads_for(x) == 1


def gradients(threads: int, dropout: float) -> tuple[float, list[torch.Tensor]]:
    """Of a loss on labels, and how many parts there were."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = Trainable(initial_model(1, 3, d_model=WIDTH, layers=2, state=8, seed=0), LENGTH)
    x, y = torch.randn(SEQUENCES, LENGTH, 1), torch.arange(SEQUENCES) % 3
    batch = Batch(x, y, None, None, slice(0, SEQUENCES), SEQUENCES, SEQUENCES * LENGTH)
    if dropout:
        model.set_dropout(Dropout(dropout, torch.Generator().manual_seed(1), SEQUENCES))
    parts: list[int] = []

    def loss(part: Batch, output: torch.Tensor, left: list[torch.Tensor]) -> torch.Tensor:
        parts.append(len(part.x))
        assert part.y is not None
        return F.cross_entropy(output, part.y, reduction="sum") / SEQUENCES

    value = model(batch, loss)
    value.backward()
    assert sum(parts) == SEQUENCES
    assert len(parts) == min(threads, 3)
    found = [each.grad for each in model.parameters() if each.grad is not None]
    return float(value.detach()), found


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients(dropout: float) -> None:
    value, whole = gradients(1, dropout)
    assert whole
    for threads in (2, 3):
        its, found = gradients(threads, dropout)
        assert its == pytest.approx(value, rel=1e-6)
        for one, other in zip(found, whole, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))
    again = gradients(2, dropout)[1]
    assert all(
        torch.equal(one, other) for one, other in zip(again, gradients(2, dropout)[1], strict=True)
    )
