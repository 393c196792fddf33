"""What a reader under test is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random


@dataclass(frozen=True)
class Reader:
    """A reader and how its inputs are made.

    Attributes:
        name: for the command line and the tables.
        file: what an input is called in the folder that the reader is given.
        seeds: gives real files, as bytes, from the folders of seeds; the same ones every time.
        mutate: makes an input of one of them; the others may lend parts.
        read: reads the input in the folder; may raise S4EdgeError and nothing else.
        weight: share of all inputs, relative to the others'.
        prepare: puts what stands beside each input into the folder, once.
    """

    name: str
    file: str
    seeds: Callable[[], Sequence[bytes]]
    mutate: Callable[[Random, bytes, Sequence[bytes]], bytes]
    read: Callable[[Path], object]
    weight: float = 1.0
    prepare: Callable[[Path], None] = lambda folder: None
