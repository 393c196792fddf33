"""Pieces of pictures as inline SVG, coloured by the page's style sheet."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from html import escape

from s4edge.reports.frame import Html
from s4edge.reports.numbers import tick

# Pixels of a picture on a page that shows it as it is. Narrow, to be legible on a phone.
WIDTH = 380
# Of a line of text, and that of a letter of a wide font.
LINE, LETTER = 15, 7.0


@dataclasses.dataclass(frozen=True)
class Axis:
    """Where values are on a picture.

    Attributes:
        low: the value at ``start``.
        high: the value at ``end``.
        start: a place in pixels.
        end: another.
        log: whether distances are ratios; both values are above 0 then.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The place of a value."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = (math.log(max(each, 1e-300)) for each in (value, low, high))
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values on the axis, at most so many."""
        if self.high <= self.low:
            return [self.low]
        return self._decades(most) if self.log else self._steps(most)

    def _steps(self, most: int) -> list[float]:
        span = self.high - self.low
        size = 10.0 ** math.floor(math.log10(span / most))
        step = next(size * part for part in (1, 2, 5, 10, 20) if span / (size * part) <= most)
        first = math.ceil(self.low / step - 1e-11)
        last = math.floor(self.high / step + 1e-11)
        return [round(step * index, 12) for index in range(first, last + 1)]

    def _decades(self, most: int) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        found: list[float] = []
        for parts in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
            found = [
                part * 10.0**power
                for power in range(first, last + 1)
                for part in parts
                if self.low * (1 - 1e-9) <= part * 10.0**power <= self.high * (1 + 1e-9)
            ]
            if len(found) <= most:
                break
        # Within less than a decade there may be no round value but those of steps.
        return found[:: -(-len(found) // most)] if len(found) > 1 else self._steps(most)


def picture(title: str, description: str, height: float, parts: Iterable[str]) -> Html:
    """Put a picture together; both texts are for those who do not see it."""
    return Html(
        f'<svg class="plot" role="img" viewBox="0 0 {WIDTH} {height:g}">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
        f"{''.join(parts)}</svg>"
    )


def text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    """Words that start, end or have their middle at ``x``, on the line at ``y``."""
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{named}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" class="{kind}"/>'


def box(x: float, y: float, width: float, height: float, kind: str, told: str = "") -> str:
    """A rectangle, with words that a pointer brings up."""
    shape = f'<rect x="{x:g}" y="{y:g}" width="{max(width, 0):g}" height="{max(height, 0):g}"'
    return f'{shape} class="{kind}"' + (f"><title>{escape(told)}</title></rect>" if told else "/>")


def path(points: Iterable[tuple[float, float]], kind: str) -> str:
    """A line through points."""
    return f'<polyline points="{" ".join(f"{x:g},{y:g}" for x, y in points)}" class="{kind}"/>'


def scale_below(axis: Axis, top: float, bottom: float, caption: str) -> str:
    """The ticks of a horizontal axis with lines through the picture, and what it shows."""
    parts = []
    for value in axis.ticks(5):
        x = axis.at(value)
        parts += [line(x, top, x, bottom, "rule"), text(x, bottom + LINE, tick(value), "middle")]
    middle = (axis.start + axis.end) / 2
    return "".join(parts) + text(middle, bottom + 2 * LINE + 1, caption, "middle")


def scale_left(axis: Axis, left: float, right: float, most: int = 4) -> str:
    """The ticks of a vertical axis with lines through the picture."""
    parts = []
    for value in axis.ticks(most):
        y = axis.at(value)
        parts += [line(left, y, right, y, "rule"), text(left - 5, y + 4, tick(value), "end")]
    return "".join(parts)


def shortened(name: str, room: float) -> str:
    """A name that fits into so many pixels: its end tells files apart, so its middle goes."""
    most = max(8, int(room / LETTER))
    if len(name) <= most:
        return name
    tail = most * 2 // 3
    return f"{name[: most - tail - 1]}…{name[-tail:]}"
