"""Cells and lists of the benchmark's pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s4edge.bench import words
from s4edge.reports.frame import Html, exact, html
from s4edge.reports.numbers import digits, ratio_text


def warnings(texts: Sequence[str]) -> Html:
    """Show what a reader must know before the numbers."""
    if not texts:
        return html()
    items = "".join(f"<li>{html(words.clean(text))}</li>" for text in texts)
    return Html(f'<ul class="warnings" aria-label="Warnings">{items}</ul>')


def name(text: str) -> Html:
    """Write a name, which may be long."""
    return Html(f'<span class="name">{html(words.clean(text))}</span>')


def number(value: float | None) -> str:
    """Write a number for people, with all its digits for programs."""
    return exact(value, digits(value))


def setting(value: float | None) -> str:
    """Write a number that was chosen and mostly is a whole one, with all its digits."""
    return words.NOTHING if value is None else exact(value, f"{value:,.10g}")


def scaled(value: int | None, unit: float) -> str:
    """Write a number of bytes, in larger units."""
    return words.NOTHING if value is None else exact(value, digits(value / unit))


def share(value: float) -> str:
    """Write a fraction, in percent."""
    return exact(value, digits(100 * value))


def ratio(found: Mapping[str, float] | None) -> str:
    """Write a ratio with its interval."""
    return words.NOTHING if found is None else exact(found["value"], ratio_text(found))
