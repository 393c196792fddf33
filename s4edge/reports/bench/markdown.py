"""The answer of a benchmark as Markdown, to paste into an issue or a README."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from s4edge.bench import words
from s4edge.reports.bench.columns import Column, Row, known
from s4edge.reports.bench.device import EMULATED, board_line, condition_line, device_line
from s4edge.reports.numbers import digits, ratio_text, short_percent

# What Markdown or HTML would take for its own; "@" and "#" would call people and issues.
_SIGNS = re.compile(r"([\\`*_\[\]<>&|~@#$])")


def bench_markdown(answer: words.Answer) -> str:
    """Write one answer: the device, its conditions, the warnings, one row per model.

    Units are in the headings: µs, MB = 10^6 bytes, kB = 10^3 bytes.
    """
    named = words.names([row["model"] for row in answer["results"]])
    rows = [dict(row, name=code(name)) for row, name in zip(answer["results"], named)]
    columns: list[Column] = [
        ("model", lambda row: row["name"]),
        ("mode", lambda row: escape(row["mode"])),
        ("samples/run", lambda row: f"{row['samples_per_run']:,}"),
        ("µs/sample", lambda row: digits(row["us_per_sample"])),
    ]
    if any(row.get("ratio") for row in rows):
        columns.append(("ratio to the first", lambda row: ratio_text(row.get("ratio"))))
    for key, name in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"), ("max", "max")):
        if any(key in row["latency_us"] for row in rows):
            columns.append((f"{name} µs/run", _latency(key)))
    if any(row.get("real_time_factor") is not None for row in rows):
        columns.append(("real-time factor", lambda row: digits(row.get("real_time_factor"))))
    if any(row.get("deadline") for row in rows):
        columns.append(("missed deadlines", _missed))
    columns += [
        ("memory MB", lambda row: digits(row["peak_rss_bytes"] / 1e6)),
        ("model kB", lambda row: digits(row["model_bytes"] / 1e3)),
        ("state kB", lambda row: digits(row["state_bytes"] / 1e3)),
    ]
    if any(row.get("energy_uj_per_sample") is not None for row in rows):
        columns.append(("µJ/sample", lambda row: digits(row.get("energy_uj_per_sample"))))
    head = f"**{escape(device_line(answer))}**"
    parts = (head, notes(answer), table(columns, rows))
    return "\n\n".join(part for part in parts if part) + "\n"


def compare_markdown(comparison: Mapping[str, Any]) -> str:
    """Write compared answers: one row per model and answer, what they ran on below.

    Args:
        comparison: as `s4edge.bench.compare.compare` gives it.
    """
    boards = comparison["boards"]
    rows = [
        dict(row or {}, name=code(words.clean(model["model"])), board=board, measured=row)
        for model in comparison["models"]
        for board, row in zip(boards, model["results"])
    ]
    columns: list[Column] = [
        ("model", lambda row: row["name"]),
        ("from", lambda row: _label(row["board"])),
        ("µs/sample", known(lambda row: digits(row["us_per_sample"]))),
        (
            f"ratio to {_label(boards[0])}",
            known(lambda row: ratio_text(row["ratio"])),
        ),
        ("p99 µs/run", known(lambda row: digits(row["latency_us"]["p99"]))),
        ("memory MB", known(lambda row: digits(row["peak_rss_bytes"] / 1e6))),
        ("state kB", known(lambda row: digits(row["state_bytes"] / 1e3))),
    ]
    alarm = f"**{EMULATED}**" if any(map(words.is_emulated, boards)) else ""
    listed = "\n".join(f"- {_label(board)}: {escape(board_line(board))}" for board in boards)
    parts = (alarm, _warnings(comparison["warnings"]), table(columns, rows), listed)
    return "\n\n".join(part for part in parts if part) + "\n"


def _label(board: Row) -> str:
    return code(words.clean(board["label"])) + (" (emulated)" if words.is_emulated(board) else "")


def notes(answer: words.Answer) -> str:
    """Write what a reader must know before the numbers: emulation, conditions, warnings."""
    lines = []
    if words.is_emulated(answer):
        lines.append(f"**{EMULATED}**")
    if answer.get("interrupted"):
        lines.append("**Interrupted: results until then.**")
    told = condition_line(answer)
    if told:
        lines.append(escape(f"{told[0].upper()}{told[1:]}."))
    return "\n\n".join(part for part in (*lines, _warnings(answer["warnings"])) if part)


def _warnings(warnings: Sequence[str]) -> str:
    return "\n".join(f"- ⚠ {escape(words.clean(text))}" for text in warnings)


def table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Write a table; the first column is text, numbers are set to the right."""
    lines = [
        [heading for heading, _ in columns],
        ["---", *["---:"] * (len(columns) - 1)],
        *([cell(row) for _, cell in columns] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: str) -> str:
    """Give text that Markdown shows as it is, also in a cell of a table."""
    # As numbers, for a backslash does nothing against "@" and everything to a "|" in a cell.
    return _SIGNS.sub(lambda found: f"&#{ord(found[0])};" if found[0] in "<>&|@#" else
                      f"\\{found[0]}", text)  # fmt: skip


def code(name: str) -> str:
    """Give a name as code, with a fence that is longer than any run of backticks in it."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", name)), default=0))
    space = " " if name.startswith(("`", " ")) or name.endswith(("`", " ")) else ""
    # A table is cut at its bars before code is looked for.
    return f"{fence}{space}{name}{space}{fence}".replace("|", "\\|")


def _latency(key: str) -> Callable[[Row], str]:
    return lambda row: digits(row["latency_us"].get(key))


def _missed(row: Row) -> str:
    told = row.get("deadline")
    if not told:
        return words.NOTHING
    return (
        f"{told['missed']:,} of {told['runs']:,} ({short_percent(told['missed_fraction'])}) "
        f"at {digits(told['us'])} µs"
    )
