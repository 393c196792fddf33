"""The frame of the pages that s4edge writes: one file, nothing fetched, light and dark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files


def document(title: str, header: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """Put a page together.

    Args:
        title: text, for the browser's tab.
        header: HTML of what comes first.
        sections: of each its id, its heading in HTML, and its HTML.
    """
    style = (files("s4edge.reports") / "page.css").read_text(encoding="utf-8")
    links = "".join(f'<a href="#{key}">{heading}</a>' for key, heading, _ in sections)
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>",
            f"<style>\n{style}</style></head><body>",
            f'<header id="summary">{header}',
            f'<nav aria-label="Sections">{links}</nav></header>',
            *(
                f'<section id="{key}"><h2>{heading}</h2>\n{body}</section>'
                for key, heading, body in sections
            ),
            "</body></html>\n",
        ]
    )


def tiles(facts: Iterable[tuple[str, str, str]]) -> str:
    """Show facts: of each its name, its value and a word below, all HTML."""
    shown = "".join(
        f"<div><dt>{name}</dt><dd>{value}{f'<small>{told}</small>' if told else ''}</dd></div>"
        for name, value, told in facts
    )
    return f"<dl>{shown}</dl>"


def figure(heading: str, note: str, svg: str) -> str:
    """Show a picture below a heading and a note, both HTML."""
    below = f"<span>{note}</span>" if note else ""
    return f"<figure><figcaption><b>{heading}</b>{below}</figcaption>{svg}</figure>"


def grid(figures: Iterable[str]) -> str:
    """Show figures side by side where there is room."""
    return f'<div class="figures">{"".join(figures)}</div>'


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    classes: Mapping[int, str] | None = None,
) -> str:
    """Show a table, with all cells HTML, in a box that scrolls where it is too wide.

    Args:
        head: headings.
        rows: cells of each row.
        classes: the style sheet's class of a row, by its number.
    """
    classes = classes or {}
    body = []
    for index, row in enumerate(rows):
        kind = f' class="{classes[index]}"' if index in classes else ""
        body.append(f"<tr{kind}>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>")
    columns = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    # Focusable, for a box that scrolls must do so without a mouse.
    return (
        '<div class="scroll" tabindex="0"><table>'
        f"<thead><tr>{columns}</tr></thead>\n<tbody>" + "\n".join(body) + "</tbody></table></div>"
    )
