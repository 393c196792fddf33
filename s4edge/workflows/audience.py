"""Who hears of long work: a person at a terminal, or nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from s4edge.progress import Progress, silent


@contextmanager
def _unseen(what: str) -> Iterator[Progress]:
    yield silent


@dataclass(frozen=True)
class Audience:
    """Whom a workflow tells what.

    Attributes:
        note: called with what should be known beside the answer, one sentence.
        detail: called with what only those who asked for more should be told, one sentence.
        progress: called with what is being done; the context that it gives yields a function that
            takes the fraction done.
    """

    note: Callable[[str], None] = lambda sentence: None
    progress: Callable[[str], AbstractContextManager[Progress]] = _unseen
    detail: Callable[[str], None] = lambda sentence: None


NOBODY = Audience()
