"""How far long work is, told by a function of the fraction done."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float], None]


def silent(fraction: float) -> None:
    """Tell nobody."""


def part_of(progress: Progress, index: int, parts: int) -> Progress:
    """The progress of one of several equal parts."""
    return lambda done: progress((index + done) / parts)
