"""Tensors as a torch file describes them: numbers that lie in it, and how they are to be read."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Storage:
    """Numbers that lie in a row.

    Attributes:
        key: what the file calls them.
        dtype: of a number; bytes where tensors say it.
        count: how many there are.
        first: the number that these begin with, of those that the file has under the key.
    """

    key: str
    dtype: torch.dtype
    count: int
    first: int

    @property
    def bytes(self) -> int:
        """That they take in the file."""
        return (self.first + self.count) * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class WithoutValues:
    """A tensor that is sparse, quantized or on no device: its shape is all that is known."""

    size: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """None that take memory."""
        return 0

    @property
    def damage(self) -> str | None:
        """What is wrong with it, or None."""
        return "a shape that no tensor has" if prod(self.size) >= 1 << 60 else None

    def tensor(self) -> Tensor:
        """Of the same shape, on no device."""
        return torch.empty(self.size, device="meta")


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor whose numbers have not been read.

    Attributes:
        storage: where they are.
        dtype: of a number.
        offset: the first one's place there.
        size: its shape.
        stride: numbers from one to the next along each axis.
        conjugate: whether their complex conjugates are meant.
        negative: whether their negatives are.
    """

    storage: Storage
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    conjugate: bool = False
    negative: bool = False

    @property
    def numbers(self) -> int:
        """How many it has; more than are stored where some stand for several."""
        return prod(self.size)

    @property
    def damage(self) -> str | None:
        """What is wrong with the description, or None: numbers beyond those that are stored."""
        if len(self.size) != len(self.stride):
            return f"{len(self.size)} axes with {len(self.stride)} strides"
        steps = zip(self.size, self.stride, strict=True)
        last = self.offset + sum((size - 1) * stride for size, stride in steps)
        there = self.storage.count * self.storage.dtype.itemsize
        if self.numbers and (last + 1) * self.dtype.itemsize > there:
            return "numbers beyond those that are stored"
        return None

    def tensor(self, data: bytearray, swapped: bool) -> Tensor:
        """The tensor, whose memory is ``data``.

        Args:
            data: what the file has under the storage's key.
            swapped: whether its numbers begin with the byte that ends this machine's.
        """
        start = self.storage.first * self.storage.dtype.itemsize
        if not self.numbers or start == len(data):
            return torch.empty(self.size, dtype=self.dtype)
        if swapped:
            width = self.dtype.itemsize // (2 if self.dtype.is_complex else 1)
            data = bytearray(np.frombuffer(data, f"u{width}").byteswap().data)
        count = (len(data) - start) // self.dtype.itemsize
        flat = torch.frombuffer(data, dtype=self.dtype, count=count, offset=start)
        tensor = flat.as_strided(self.size, self.stride, self.offset)
        if self.conjugate and self.dtype.is_complex:
            tensor = tensor.conj()
        return -tensor if self.negative else tensor


TENSORS = (StoredTensor, WithoutValues)
