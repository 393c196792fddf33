"""Which sequences stand in which batch: a function of seed and epoch only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from s4edge.arrays import Int
from s4edge.data.dataset import Data
from s4edge.errors import S4EdgeError
from s4edge.training.processes import Processes

_ORDER, _DROPOUT, _SPLIT = range(3)


@dataclass(frozen=True)
class Batch:
    """The sequences of a batch that this process has.

    Attributes:
        x: (rows, length, d_input) or (rows, length) tokens.
        y: labels or targets, or None.
        lengths: (rows,) or None.
        aim: (rows, ...) the teacher's outputs, or None.
        rows: which of the batch they are.
        sequences: in the whole batch, in all processes.
        steps: samples that count in the whole batch.
        empty: the process has none: the one row stands for it and does not count.
    """

    x: Tensor
    y: Tensor | None
    lengths: Tensor | None
    aim: Tensor | None
    rows: slice
    sequences: int
    steps: int
    empty: bool = False

    def parts(self, size: int) -> Iterator[Batch]:
        """Of at most so many rows each."""
        for start in range(0, len(self.x), size):
            some = slice(start, start + size)
            first = self.rows.start + start
            yield replace(
                self,
                x=self.x[some],
                rows=slice(first, min(first + size, self.rows.stop)),
                y=None if self.y is None else self.y[some],
                lengths=None if self.lengths is None else self.lengths[some],
                aim=None if self.aim is None else self.aim[some],
            )


@dataclass(frozen=True)
class Sequences:
    """Data as tensors.

    Attributes:
        x: (samples, length, d_input) or (samples, length) tokens.
        y: labels or targets, or None.
        lengths: (samples,) or None.
        aim: (samples, ...) the teacher's outputs, or None.
    """

    x: Tensor
    y: Tensor | None
    lengths: Tensor | None
    aim: Tensor | None = None

    @staticmethod
    def of(data: Data, aim: Tensor | None = None) -> Sequences:
        """From arrays; targets as float32."""
        y = None if data.y is None else torch.from_numpy(data.y)
        if y is not None:
            y = y.float() if y.is_floating_point() else y.long()
        lengths = None if data.lengths is None else torch.from_numpy(data.lengths)
        return Sequences(torch.from_numpy(data.x), y, lengths, aim)

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, chosen: Int, processes: Processes) -> Batch:
        """Some of them, and of these what the process has."""
        rows = processes.share(len(chosen))
        empty = rows.start == rows.stop
        mine = torch.from_numpy(chosen[:1] if empty else chosen[rows])
        length = self.x.shape[1]
        steps = len(chosen) * length
        if self.lengths is not None:
            steps = int(self.lengths[torch.from_numpy(chosen)].sum())
        if empty:
            rows = slice(0, 1)
        y, lengths, aim = (
            None if each is None else each[mine] for each in (self.y, self.lengths, self.aim)
        )
        return Batch(self.x[mine], y, lengths, aim, rows, len(chosen), steps, empty)

    def epoch(self, size: int, seed: int, epoch: int, processes: Processes) -> Iterator[Batch]:
        """All of them in an order that seed and epoch decide, the last batch smaller."""
        order = random_of(seed, epoch, _ORDER).permutation(len(self))
        for start in range(0, len(order), size):
            yield self.batch(order[start : start + size], processes)

    def in_order(self, size: int, processes: Processes) -> Iterator[Batch]:
        """All of them as they come."""
        for start in range(0, len(self), size):
            yield self.batch(np.arange(start, min(start + size, len(self))), processes)


def random_of(seed: int, epoch: int, purpose: int) -> np.random.Generator:
    """Independent random numbers for each seed, epoch and purpose."""
    return np.random.default_rng([seed, epoch, purpose])


def dropout_generator(seed: int, epoch: int) -> torch.Generator:
    """Of an epoch's masks."""
    number = int(random_of(seed, epoch, _DROPOUT).integers(2**62))
    return torch.Generator().manual_seed(number)


def split(data: Data, fraction: float, seed: int) -> tuple[Data, Data | None]:
    """Training and validation part; of each class its share, where there are labels.

    Raises:
        S4EdgeError: too few sequences for the fraction.
    """
    if fraction == 0:
        return data, None
    rng = random_of(seed, 0, _SPLIT)
    order = rng.permutation(len(data))
    if data.y is not None and data.y.ndim == 1 and data.y.dtype.kind in "iu":
        # Sorted by class in random order, every so manyth goes out: each class gives its share.
        order = order[np.argsort(data.y[order], kind="stable")]
    count = round(fraction * len(data))
    if not 0 < count < len(data):
        raise S4EdgeError(
            f"{data.source}: {len(data)} sequences are too few to hold out {fraction:g} of them"
        )
    held_out = np.zeros(len(data), dtype=bool)
    held_out[order[np.linspace(0, len(data) - 1, count).round().astype(int)]] = True
    return data.part(np.flatnonzero(~held_out)), data.part(np.flatnonzero(held_out))
