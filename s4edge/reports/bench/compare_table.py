"""Compared benchmarks for people: a table that fits 80 columns, only names wrap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from s4edge.bench import words
from s4edge.reports.bench.device import board_line
from s4edge.reports.bench.table import add_numbers, empty_table
from s4edge.reports.numbers import digits, thousandths


def compare_report(comparison: Mapping[str, Any]) -> list[Table | Text]:
    """Give what to print, part by part.

    Args:
        comparison: as `s4edge.bench.compare.compare` gives it.
    """
    boards = comparison["boards"]
    table = empty_table()
    # As Text, for a bracket in a name is no markup.
    table.caption = Text(
        f"ratio: time per sample over that in {words.clean(boards[0]['label'])}\n"
        "low, high: its 95 % interval, by what changed between rounds;\n"
        "what differed between the runs as a whole it does not know"
    )
    table.caption_justify = "left"
    table.add_column("\nmodel", overflow="fold")
    table.add_column("\nfrom", overflow="fold")
    add_numbers(
        table,
        *("µs per\nsample", "\nratio", "\nlow", "\nhigh"),
        *("µs/run\np99", "memory\nMB", "state\nkB"),
    )
    for model in comparison["models"]:
        name = words.clean(model["model"])
        for board, row in zip(boards, model["results"]):
            label = Text(words.clean(board["label"]))
            if row is None:
                table.add_row(Text(name), label, words.NOTHING)
            else:
                ratio = row["ratio"] or {}
                table.add_row(
                    Text(name),
                    label,
                    digits(row["us_per_sample"]),
                    *(thousandths(ratio.get(key)) for key in ("value", "low", "high")),
                    digits(row["latency_us"]["p99"]),
                    digits(row["peak_rss_bytes"] / 1e6),
                    digits(row["state_bytes"] / 1e3),
                )
            name = ""
        table.add_section()
    return [table, *(Text(_board(board)) for board in boards)]


def _board(board: Mapping[str, Any]) -> str:
    emulated = "EMULATED, no speed: " if words.is_emulated(board) else ""
    return f"{words.clean(board['label'])}: {emulated}{board_line(board)}"
