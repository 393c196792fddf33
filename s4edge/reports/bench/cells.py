"""Cells and lists of the benchmark's pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from s4edge.bench import words


def warnings(texts: Sequence[str]) -> str:
    """Show what a reader must know before the numbers."""
    if not texts:
        return ""
    items = "".join(f"<li>{escape(words.clean(text))}</li>" for text in texts)
    return f'<ul class="warnings" aria-label="Warnings">{items}</ul>'


def number(value: float | None) -> str:
    """Write a number for people, with all its digits for programs."""
    if value is None:
        return words.NOTHING
    return f'<data value="{value!r}">{words.digits(value)}</data>'


def count(value: int) -> str:
    """Write a whole number."""
    return f'<data value="{value!r}">{value:,}</data>'


def setting(value: float | None) -> str:
    """Write a number that was chosen and mostly is a whole one, with all its digits."""
    return words.NOTHING if value is None else f'<data value="{value!r}">{value:,.10g}</data>'


def scaled(value: int | None, unit: float) -> str:
    """Write a number of bytes, in larger units."""
    if value is None:
        return words.NOTHING
    return f'<data value="{value!r}">{words.digits(value / unit)}</data>'


def share(value: float) -> str:
    """Write a fraction, in percent."""
    return f'<data value="{value!r}">{words.digits(100 * value)}</data>'


def ratio(found: Mapping[str, float] | None) -> str:
    """Write a ratio with its interval."""
    if found is None:
        return words.NOTHING
    return f'<data value="{found["value"]!r}">{words.ratio_text(found)}</data>'
