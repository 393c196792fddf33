"""What a source is, whatever it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from s4edge.arrays import Samples


class Begun(NamedTuple):
    """A source whose beginning has been read and found good.

    Attributes:
        blocks: (samples, d_input) arrays, or (samples, 1) tokens, read as they are asked for.
        rate: samples per second that the file itself states, or None.
    """

    blocks: Iterator[Samples]
    rate: float | None = None


@dataclass
class Source:
    """Samples in order. Iterating reads them, never much more than a block at a time.

    Attributes:
        name: the file's, for messages.
        read: starts reading; gives (samples, d_input) arrays, or (samples, 1) tokens. What a pipe
            has at the moment is a block, so that answers are not late.
        rate: samples per second, or None if nobody said.
        again: whether it can be read more than once.
        warnings: what a person should know of it; grows while it is read.
    """

    name: str
    read: Callable[[], Iterator[Samples]]
    rate: float | None = None
    again: bool = True
    warnings: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Samples]:
        return self.read()

    def peak(self) -> float:
        """The largest magnitude in it, NaN and infinity aside; reads it all.

        Raises:
            S4EdgeError: as reading does.
        """
        largest = 0.0
        for block in self.read():
            sizes = np.abs(block[np.isfinite(block)])
            largest = max(largest, float(sizes.max(initial=0)))
        return largest


def warn_once(warnings: list[str], text: str) -> None:
    """Add a warning that is not there yet: a source may be read twice."""
    if text not in warnings:
        warnings.append(text)
