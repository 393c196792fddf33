"""Dropout of whole features of a sequence, drawn for a batch however many processes share it."""

from __future__ import annotations

import threading

import torch
from torch import Tensor


class _Pass(threading.local):
    """Where a pass through the model is; each thread has its own."""

    rows = slice(None)
    at = 0


class Dropout:
    """Zeroes features at all times together, and scales the others up.

    Masks are drawn for the whole batch from one generator on the CPU and cut down to the rows at
    hand: processes, parts and threads that share a batch see what one pass over all of it would
    have drawn.

    Args:
        rate: probability that a feature is zeroed.
        generator: of random numbers.
        batch: sequences of the whole batch.
    """

    def __init__(self, rate: float, generator: torch.Generator, batch: int) -> None:
        self.rate, self.generator, self.batch = rate, generator, batch
        self.masks: list[Tensor] = []
        self._drawing, self._pass = threading.Lock(), _Pass()
        self.begin(slice(None))

    def begin(self, rows: slice) -> None:
        """Start a pass of some of the batch's rows through the model, in the thread that calls."""
        self._pass.rows, self._pass.at = rows, 0

    def __call__(self, x: Tensor) -> Tensor:
        """``x`` (rows, length, features), in the order of its memory."""
        with self._drawing:
            if self._pass.at == len(self.masks):
                shape = (self.batch, 1, x.shape[-1])
                kept = torch.rand(shape, generator=self.generator) >= self.rate
                self.masks.append(kept / (1 - self.rate))
        mask = self.masks[self._pass.at][self._pass.rows]
        self._pass.at += 1
        return x * mask.to(x.device, x.dtype)
