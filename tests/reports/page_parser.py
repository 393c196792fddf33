"""A page of HTML taken apart, and what every page of s4edge's must keep to."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "link", "img"}
DRAWN = {"rect", "line", "circle", "polyline"}


class Parsed(HTMLParser):
    """What was opened, with its text.

    Attributes:
        tags: names and attributes, in order.
        values: of all ``data`` elements.
        text: all of it that is shown, by the section's id.
        cells: of each section's tables, as rows of (text, exact value).
    """

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.values: list[float] = []
        self.text: dict[str, str] = {}
        self.cells: dict[str, list[list[list[tuple[str, float | None]]]]] = {}
        self.section = ""
        self._cell: tuple[str, float | None] | None = None
        self.feed(source)
        self.close()
        assert self.open == []
        self.ids = [str(found["id"]) for _, found in self.tags if "id" in found]
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag in ("section", "header"):
            self.section = str(found["id"])
            self.cells[self.section] = []
        if tag == "table":
            self.cells[self.section].append([])
        if tag == "tr":
            self.cells[self.section][-1].append([])
        if tag in ("td", "th"):
            self._cell = "", None
        if tag == "data":
            self.values.append(float(str(found["value"])))
            if self._cell is not None:
                self._cell = self._cell[0], self.values[-1]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag in ("td", "th"):
            assert self._cell is not None
            self.cells[self.section][-1][-1].append(self._cell)
            self._cell = None

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text[self.section] = self.text.get(self.section, "") + data
        if self._cell is not None:
            self._cell = self._cell[0] + data, self._cell[1]


class Page(Parsed):
    """A page that draws its pictures itself.

    Attributes:
        tables: of each section, as rows of cells' texts.
        pictures: of each section, the pieces that its pictures are drawn of.
    """

    def __init__(self, source: str) -> None:
        self.pictures: dict[str, list[list[tuple[str, dict[str, str | None]]]]] = {}
        super().__init__(source)
        self.tables = {
            section: [[[text for text, _ in row] for row in table] for table in tables]
            for section, tables in self.cells.items()
        }
        self._check()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        super().handle_starttag(tag, attrs)
        if tag == "svg":
            self.pictures.setdefault(self.section, []).append([])
        if tag in ("svg", "text", *DRAWN):
            self.pictures[self.section][-1].append(self.tags[-1])

    def _check(self) -> None:
        """Nothing is fetched or run; pictures tell what they show and stay in their frames."""
        assert not re.search(r'src=|@import|url\(|<link|<script|<iframe| on\w+="', self.source)
        assert not re.search(r'href="(?!#)', self.source)
        links = [found["href"] for tag, found in self.tags if tag == "a"]
        assert {str(link)[1:] for link in links} <= set(self.ids)
        assert "prefers-color-scheme: dark" in self.source
        after = [tag for tag, _ in self.tags]
        for index, tag in enumerate(after):
            if tag == "svg":
                assert self.tags[index][1]["role"] == "img"
                assert after[index + 1 : index + 3] == ["title", "desc"]
        for drawings in self.pictures.values():
            for drawing in drawings:
                _check_inside(drawing)


def _check_inside(drawing: list[tuple[str, dict[str, str | None]]]) -> None:
    width, height = (float(size) for size in str(drawing[0][1]["viewbox"]).split()[2:])
    for tag, found in drawing[1:]:
        number = {
            key: float(str(value))
            for key, value in found.items()
            if key in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height")
        }
        assert all(math.isfinite(value) for value in number.values())
        xs = [number[key] for key in ("x", "x1", "x2", "cx") if key in number]
        ys = [number[key] for key in ("y", "y1", "y2", "cy") if key in number]
        if tag == "rect":
            assert number["width"] >= 0
            assert number["height"] >= 0
            xs.append(number["x"] + number["width"])
            ys.append(number["y"] + number["height"])
        if tag == "polyline":
            pairs = [pair.split(",") for pair in str(found["points"]).split()]
            xs += [float(x) for x, _ in pairs]
            ys += [float(y) for _, y in pairs]
        assert all(-1 <= x <= width + 1 for x in xs), (tag, found)
        assert all(-1 <= y <= height + 1 for y in ys), (tag, found)
