"""One line on a terminal that shows the answer as it is now."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from s4edge.runtime.answers import Answer, StreamRun

_BAR = 20
# Often enough to look live, seldom enough to cost nothing.
_SECONDS_BETWEEN = 0.1


class LiveLine:
    """Use it as a context: the line stays when it ends.

    Args:
        console: of the terminal.
        run: whose real-time factor is shown.
        labels: the classes' names, or None.
    """

    def __init__(self, console: Console, run: StreamRun, labels: Sequence[str] | None) -> None:
        self._run, self._labels = run, labels
        self._ascii = not console.encoding.lower().startswith("utf")
        # It redraws when it is told to: no thread that competes with the graph.
        self._live = Live(console=console, auto_refresh=False)
        self._last: Answer | None = None
        self._drawn = float("-inf")

    def __enter__(self) -> LiveLine:
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._last is not None:
            self._draw(self._last)
        self._live.stop()

    def show(self, answer: Answer) -> None:
        """Show an answer, unless one was shown just now."""
        self._last = answer
        now = time.monotonic()
        if now - self._drawn >= _SECONDS_BETWEEN:
            self._drawn = now
            self._draw(answer)

    def _draw(self, answer: Answer) -> None:
        line = Text(told(answer, self._run, self._labels, self._ascii))
        line.no_wrap, line.overflow = True, "ellipsis" if not self._ascii else "crop"
        self._live.update(line, refresh=True)


def told(
    answer: Answer, run: StreamRun, labels: Sequence[str] | None, plain_ascii: bool = False
) -> str:
    """An answer in one line for a person."""
    parts = [
        f"{answer.seconds:8.2f} s" if answer.seconds is not None else f"sample {answer.sample:,}"
    ]
    if answer.sequence is not None:
        parts.append(f"sequence {answer.sequence}")
    if answer.best is not None:
        share = _share(answer)
        full, empty = "#." if plain_ascii else "█░"
        name = str(answer.best) if labels is None else labels[answer.best]
        width = max(len(each) for each in labels) if labels else len(str(len(answer.y) - 1))
        bar = (full * round(_BAR * share)).ljust(_BAR, empty)
        parts.append(f"{name:<{width}} {bar} {share:4.0%}")
    else:
        parts.append("y = " + " ".join(f"{value:.4g}" for value in answer.y[:8]))
        if len(answer.y) > 8:
            parts[-1] += " ..."
    if run.real_time_factor is not None:
        parts.append(f"real-time factor {run.real_time_factor:.3g}")
    elif run.us_per_sample is not None:
        parts.append(f"{run.us_per_sample:.3g} {'us' if plain_ascii else 'µs'} per sample")
    return "  ".join(parts)


def _share(answer: Answer) -> float:
    """Of the best class, by softmax: what its score would be as a probability."""
    scores = answer.y.astype(np.float64)
    return float(1 / np.exp(scores - scores.max()).sum())
