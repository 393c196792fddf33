"""Dropout of whole features of a sequence, drawn for a batch however many processes share it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Dropout:
    """Zeroes features at all times together, and scales the others up.

    A mask is drawn for the whole batch from one generator on the CPU and cut down to the rows at
    hand: several processes that share a batch draw what one would have drawn.

    Attributes:
        rate: probability that a feature is zeroed.
        generator: of random numbers.
        rows: of the batch that are here.
        batch: sequences of the batch in all processes.
    """

    rate: float
    generator: torch.Generator
    rows: slice
    batch: int

    def __call__(self, x: Tensor) -> Tensor:
        """``x`` (rows, length, features), in the order of its memory."""
        shape = (self.batch, 1, x.shape[-1])
        kept = torch.rand(shape, generator=self.generator)[self.rows] >= self.rate
        return x * (kept / (1 - self.rate)).to(x.device, x.dtype)
