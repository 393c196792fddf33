"""What became of inputs, in memory that a child shares with its parent and leaves behind."""

from __future__ import annotations

import mmap
import struct
from dataclasses import astuple, dataclass, fields


@dataclass
class Tally:
    """Counts and extremes.

    Attributes:
        index: number of the input that is being read.
        inputs: that were begun.
        read: that were read.
        refused: that were refused in one line.
        bugs: everything else.
        seconds: of processor time, for making and reading them.
        slowest: seconds of processor time that one took to be read.
        slowest_index: its number.
        memory: most bytes of resident memory that a process gained.
        space: most bytes of address space that a process gained.
    """

    index: int = -1
    inputs: int = 0
    read: int = 0
    refused: int = 0
    bugs: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    slowest_index: int = -1
    memory: int = 0
    space: int = 0

    def add(self, other: Tally) -> None:
        """Put another's counts to these."""
        for name in ("inputs", "read", "refused", "bugs", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.slowest > self.slowest:
            self.slowest, self.slowest_index = other.slowest, other.slowest_index
        self.memory = max(self.memory, other.memory)
        self.space = max(self.space, other.space)


class SharedTally:
    """A tally that outlives the process that fills it."""

    _LAYOUT = struct.Struct(f"{len(fields(Tally))}d")

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self._LAYOUT.size)
        self.put(Tally())

    def put(self, tally: Tally) -> None:
        """Show a tally."""
        self._LAYOUT.pack_into(self._memory, 0, *astuple(tally))

    def get(self) -> Tally:
        """What was shown last."""
        values = self._LAYOUT.unpack_from(self._memory)
        kinds = (type(value) for value in astuple(Tally()))
        return Tally(*(kind(value) for kind, value in zip(kinds, values, strict=True)))

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
