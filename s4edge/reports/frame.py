"""The frame of the pages that s4edge writes: one file, nothing fetched, light and dark.

Whatever comes in is text and is escaped here, but for `Html`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files

from s4edge.reports import palette


class Html(str):
    """What is HTML already. jinja2, too, knows it by its method."""

    __slots__ = ()

    def __html__(self) -> str:
        """Give it as it is."""
        return str(self)


def html(*parts: str) -> Html:
    """Put parts together; those that are text are escaped."""
    return Html("".join(part if hasattr(part, "__html__") else escape(part) for part in parts))


def document(title: str, header: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """Put a page together.

    Args:
        title: for the browser's tab.
        header: what comes first.
        sections: of each its id, its heading, and what is in it.
    """
    style = palette.style() + (files("s4edge.reports") / "frame.css").read_text(encoding="utf-8")
    links = "".join(f'<a href="#{key}">{html(heading)}</a>' for key, heading, _ in sections)
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html(title)}</title>",
            f"<style>\n{style}</style></head><body>",
            f'<header id="summary">{html(header)}',
            f'<nav aria-label="Sections">{links}</nav></header>',
            *(
                f'<section id="{key}"><h2>{html(heading)}</h2>\n{html(body)}</section>'
                for key, heading, body in sections
            ),
            "</body></html>\n",
        ]
    )


def paragraph(text: str, kind: str = "") -> Html:
    """Show a paragraph, of one of the style sheet's classes."""
    named = f' class="{kind}"' if kind else ""
    return Html(f"<p{named}>{html(text)}</p>")


def tiles(facts: Iterable[tuple[str, str, str]]) -> Html:
    """Show facts: of each its name, its value and a word below."""
    shown = "".join(
        f"<div><dt>{html(name)}</dt><dd>{html(value)}"
        f"{f'<small>{html(told)}</small>' if told else ''}</dd></div>"
        for name, value, told in facts
    )
    return Html(f"<dl>{shown}</dl>")


def figure(heading: str, note: str, picture: Html, keys: Iterable[tuple[str, str]] = ()) -> Html:
    """Show a picture below a heading and a note.

    Args:
        heading: what is seen.
        note: how to read it.
        picture: of inline SVG.
        keys: names of what is drawn, each with the class of its colour.
    """
    below = f"<span>{html(note)}</span>" if note else ""
    named = "".join(f'<span><i class="key {kind}"></i>{html(name)}</span>' for kind, name in keys)
    below += f'<span class="keys">{named}</span>' if named else ""
    return Html(f"<figure><figcaption><b>{html(heading)}</b>{below}</figcaption>{picture}</figure>")


def grid(figures: Iterable[str]) -> Html:
    """Show figures side by side where there is room."""
    return Html(f'<div class="figures">{html(*figures)}</div>')


def folded(summary: str, body: str) -> Html:
    """Show what unfolds below its summary."""
    return Html(f"<details><summary>{html(summary)}</summary>{html(body)}</details>")


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    classes: Mapping[int, str] | None = None,
) -> Html:
    """Show a table in a box that scrolls where it is too wide.

    Args:
        head: headings, each of one line or more.
        rows: cells of each row.
        classes: the style sheet's class of a row, by its number.
    """
    classes = classes or {}
    body = []
    for index, row in enumerate(rows):
        kind = f' class="{classes[index]}"' if index in classes else ""
        body.append(f"<tr{kind}>" + "".join(f"<td>{html(cell)}</td>" for cell in row) + "</tr>")
    columns = "".join(f'<th scope="col">{html(cell)}</th>' for cell in head).replace("\n", "<br>")
    # Focusable, for a box that scrolls must do so without a mouse.
    return Html(
        '<div class="scroll" tabindex="0"><table>'
        f"<thead><tr>{columns}</tr></thead>\n<tbody>" + "\n".join(body) + "</tbody></table></div>"
    )


def exact(value: float | None, text: str) -> str:
    """Show a number as ``text``, with all its digits for programs where it is one."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return text
    plain = value if isinstance(value, int) else float(value)
    return Html(f'<data value="{plain!r}">{html(text)}</data>')


def count(value: int) -> str:
    """Show a whole number."""
    return exact(value, f"{value:,}")
