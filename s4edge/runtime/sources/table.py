"""Tables as text: commas, semicolons or tabs, with or without a line of names."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from s4edge.arrays import Samples
from s4edge.errors import S4EdgeError
from s4edge.runtime.sources.byte_stream import ByteStream
from s4edge.runtime.sources.source import Begun

_BLOCK_BYTES = 1 << 15
_LONGEST_LINE = 1 << 20

# A line's number, from 1, and its text.
_Line = tuple[int, str]


def begin_table(stream: ByteStream, d_input: int, columns: Sequence[str] | None) -> Begun:
    """Read the first lines; pick the columns.

    Args:
        stream: at the start of the file.
        d_input: columns that the graph takes.
        columns: names or numbers (from 1) of those to take, or None for all.

    Raises:
        S4EdgeError: it is no table, or has other columns. Reading raises it where a line has
            another number of cells or one that is no number.
    """
    lines = _lines(stream)
    names: list[str] | None = None
    comment: str | None = None
    for block in lines:
        while block:
            number, text = block[0]
            if text.lstrip().startswith("#"):
                comment = text.lstrip().lstrip("#").strip()
                block.pop(0)
                continue
            delimiter = next((each for each in "\t;," if each in text), ",")
            first = _cells(stream.name, number, text, delimiter)
            if any(_is_text(cell, delimiter) for cell in first):
                names = first
                block.pop(0)
            elif comment is not None and comment.count(delimiter) == text.count(delimiter):
                names = _cells(stream.name, number, comment, delimiter)  # as numpy.savetxt does
            picked = _pick(stream.name, names, len(first), d_input, columns)
            rows = itertools.chain([block], lines)
            return Begun(_parsed(stream.name, rows, delimiter, len(first), picked))
    return Begun(iter(()))


def _lines(stream: ByteStream) -> Iterator[list[_Line]]:
    """Lines that are not empty, in blocks as they come."""
    number, rest, end = 0, b"", False
    while not end:
        data = stream.some(_BLOCK_BYTES)
        end = not data
        *whole, rest = (rest + data).split(b"\n")
        if end and rest:
            whole.append(rest)
        if len(rest) > _LONGEST_LINE:
            raise S4EdgeError(f"{stream.name} is no table: line {number + 1} does not end")
        block = []
        for line in whole:
            number += 1
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r")
            except UnicodeDecodeError as error:
                raise S4EdgeError(
                    f"{stream.name} is no UTF-8 text (line {number}); save it as CSV in UTF-8"
                ) from error
            if "\0" in text:
                raise S4EdgeError(f"{stream.name} is no text (line {number} holds zero bytes)")
            if text.strip():
                block.append((number, text))
        if block:
            yield block


def _cells(name: str, number: int, text: str, delimiter: str) -> list[str]:
    if '"' not in text:
        return [cell.strip() for cell in text.split(delimiter)]
    try:
        return [cell.strip() for cell in next(csv.reader([text], delimiter=delimiter))]
    except csv.Error as error:
        raise S4EdgeError(f"{name}: line {number} is no line of a table ({error})") from error


def _number(cell: str, delimiter: str) -> float:
    if not cell:
        return float("nan")
    if delimiter != ",":  # then a comma may be the decimal point
        cell = cell.replace(",", ".")
    return float(cell)


def _is_text(cell: str, delimiter: str) -> bool:
    try:
        _number(cell, delimiter)
    except ValueError:
        return True
    return False


def _pick(
    name: str,
    names: list[str] | None,
    count: int,
    d_input: int,
    columns: Sequence[str] | None,
) -> list[int]:
    """The columns to take, from 0."""
    listed = f" ({_printable(', '.join(names[:20]))})" if names else ""
    has = f"{name} has {count} column{'' if count == 1 else 's'}{listed}"
    if columns is None:
        if count != d_input:
            numbers = ",".join(str(each + 1) for each in range(d_input))
            example = f": pick with --columns, as in --columns {numbers}" if count > d_input else ""
            raise S4EdgeError(f"{has}, the graph takes {d_input}{example}")
        return list(range(count))
    picked = []
    for column in columns:
        if names and column in names:
            picked.append(names.index(column))
        elif column.isdecimal() and 1 <= int(column) <= count:
            picked.append(int(column) - 1)
        else:
            raise S4EdgeError(f"{has}, none is {column!r}")
    if len(picked) != d_input:
        raise S4EdgeError(f"--columns names {len(picked)}, the graph takes {d_input}")
    return picked


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text[:300])


def _parsed(
    name: str,
    blocks: Iterator[list[_Line]],
    delimiter: str,
    count: int,
    picked: list[int],
) -> Iterator[Samples]:
    for block in blocks:
        rows: list[list[float]] = []
        trouble: S4EdgeError | None = None
        for number, text in block:
            if text.lstrip().startswith("#"):
                continue
            try:
                rows.append(_row(name, number, text, delimiter, count, picked))
            except S4EdgeError as error:
                trouble = error
                break
        if rows:  # also those before a bad one
            yield np.array(rows)
        if trouble is not None:
            raise trouble


def _row(
    name: str, number: int, text: str, delimiter: str, count: int, picked: list[int]
) -> list[float]:
    cells = _cells(name, number, text, delimiter)
    if len(cells) != count:
        raise S4EdgeError(
            f"{name}: line {number} has {len(cells)} cell{'' if len(cells) == 1 else 's'}, the "
            f"first has {count}"
        )
    try:
        return [_number(cells[column], delimiter) for column in picked]
    except ValueError as error:
        bad = next(cells[c] for c in picked if _is_text(cells[c], delimiter))
        raise S4EdgeError(f"{name}: line {number} holds {bad[:40]!r}, no number") from error
