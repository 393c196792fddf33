"""Columns of the benchmark's tables: a heading, and the cell of a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from s4edge.bench.words import NOTHING
from s4edge.reports import frame
from s4edge.reports.bench import cells

# A result of an answer, and what it is shown with.
Row = Mapping[str, Any]
Cell = Callable[[Row], str]
Column = tuple[str, Cell]


def name(key: str) -> Cell:
    """Of a name, which may be long."""
    return lambda row: cells.name(row[key])


def count(*keys: str) -> Cell:
    """Of the whole number that stands under these keys, one within the other."""
    return lambda row: frame.count(_under(row, keys))


def number(*keys: str) -> Cell:
    """Of any number, which may be missing."""
    return lambda row: cells.number(_under(row, keys))


def scaled(unit: float, *keys: str) -> Cell:
    """Of a number of bytes, in larger units."""
    return lambda row: cells.scaled(_under(row, keys), unit)


def known(cell: Cell) -> Cell:
    """The cell where the row has a result under ``measured``."""
    return lambda row: NOTHING if row["measured"] is None else cell(row)


def table(columns: Sequence[Column], rows: Sequence[Row]) -> frame.Html:
    """Show rows by columns."""
    head = [heading for heading, _ in columns]
    return frame.table(head, [[cell(row) for _, cell in columns] for row in rows])


def _under(row: Row, keys: Sequence[str]) -> Any:
    found: Any = row
    for key in keys:
        found = (found or {}).get(key)
    return found
