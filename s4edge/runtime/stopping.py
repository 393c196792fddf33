"""Ctrl-C and SIGTERM that wait until a program is between two blocks of its input."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

from s4edge.arrays import Samples

# Of one part: what runs before a signal is heeded.
_SAMPLES = 512


class StopBetween:
    """As a context, takes both signals over; iterating `blocks` then raises them.

    Whatever is done with a block is done with all of it, and what waits for a block is stopped at
    once. A second signal is raised wherever it comes. Only the main thread may use it.
    """

    def __init__(self) -> None:
        self._waiting = False
        self._pending: BaseException | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopBetween:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._heed)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def blocks(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """The same samples, in parts.

        Raises:
            KeyboardInterrupt: after Ctrl-C.
            SystemExit: after SIGTERM.
        """
        source = iter(blocks)
        while True:
            self._waiting = True
            try:
                self._raise()
                block = next(source)
            except StopIteration:
                return
            finally:
                self._waiting = False
            for start in range(0, len(block), _SAMPLES):
                self._raise()
                yield block[start : start + _SAMPLES]

    def _raise(self) -> None:
        if self._pending is not None:
            raise self._pending

    def _heed(self, number: int, frame: FrameType | None) -> None:
        stop = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
        if self._waiting or self._pending is not None:
            raise stop
        self._pending = stop
