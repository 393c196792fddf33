"""Compared benchmarks as one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from s4edge.bench import words
from s4edge.reports import frame, palette
from s4edge.reports.bench import cells, plots
from s4edge.reports.bench.columns import Column, Row, count, known, name, number, scaled, table
from s4edge.reports.bench.device import EMULATED, conditions
from s4edge.reports.frame import Html, html, paragraph
from s4edge.reports.numbers import bytes_text, counted, digits


def compare_page(comparison: Mapping[str, Any]) -> str:
    """Write the page of a comparison.

    Args:
        comparison: as `s4edge.bench.compare.compare` gives it.
    """
    boards = comparison["boards"]
    labels = [words.clean(board["label"]) for board in boards]
    alarm = paragraph(EMULATED, "alarm") if any(map(words.is_emulated, boards)) else ""
    title = " and ".join(labels) if len(labels) == 2 else f"{len(labels)} benchmarks"
    models = counted(len(comparison["models"]), "model")
    told = f"{models} side by side, matched by file name; ratios are to {labels[0]}."
    warnings = cells.warnings(comparison["warnings"])
    header = html(Html(f"<h1>{html(title)}</h1>\n"), paragraph(told), alarm, warnings)
    rows = _rows(comparison, labels)
    sections = [
        ("time", "Time per sample", _times(rows, labels[0])),
        ("memory", "Memory", _memory(rows)),
        ("conditions", "Boards and conditions", _boards(comparison, labels)),
    ]
    return frame.document(f"{title}: s4edge bench", header, sections)


def _rows(comparison: Mapping[str, Any], labels: list[str]) -> list[Row]:
    """Each model on each board, model by model; the first bar of a model has its heading."""
    emulated = [words.is_emulated(board) for board in comparison["boards"]]
    rows: list[Row] = []
    for model in comparison["models"]:
        model_name = heading = words.clean(model["model"])
        for index, (label, measured) in enumerate(zip(labels, model["results"])):
            shown = {"name": model_name, "heading": heading, "label": label, "measured": measured}
            shown["color"] = f"s{index % palette.SERIES}"
            shown["no_speed"] = " (emulated)" if emulated[index] else ""
            rows.append({**(measured or {}), **shown})
            if measured is not None:
                heading = ""
    return rows


def _times(rows: list[Row], first: str) -> Html:
    measured = [row for row in rows if row["measured"] is not None]
    bars = [
        _bar(
            row,
            row["us_per_sample"],
            f"{digits(row['us_per_sample'])} µs{row['no_speed']}",
            "s-machine" if row["no_speed"] else row["color"],
        )
        for row in measured
    ]
    figures = []
    if bars:
        grey = " Grey: emulated, no speed." if any(row["no_speed"] for row in rows) else ""
        figures.append(
            frame.figure(
                "Time per sample",
                f"Shorter is faster; the median of a run over its samples.{grey}",
                plots.bars("Time per sample", bars, "µs per sample"),
            )
        )
    ratios = [(f"{row['name']}, {row['label']}", row["ratio"]) for row in measured if row["ratio"]]
    if ratios:
        figures.append(
            frame.figure(
                f"Ratio to {first}",
                "Left of the line is faster; 95 % intervals of what changed from round to round. "
                "What differed between the runs as a whole they do not know.",
                plots.intervals(f"Ratio to {first}", ratios, "ratio of time per sample"),
            )
        )
    columns = [
        ("time per\nsample, µs",
         lambda row: html(cells.number(row["us_per_sample"]), row["no_speed"])),
        ("ratio", lambda row: cells.ratio(row["ratio"])),
        ("µs per\nrun, p50", number("latency_us", "p50")),
        ("p99", number("latency_us", "p99")),
        ("p99.9", number("latency_us", "p999")),
        ("real-time\nfactor", number("real_time_factor")),
        ("samples\nper run", count("samples_per_run")),
        ("threads", count("threads")),
        ("energy per\nsample, µJ", number("energy_uj_per_sample")),
    ]  # fmt: skip
    return html(frame.grid(figures), _table(columns, rows))


def _memory(rows: list[Row]) -> Html:
    bars = [
        _bar(row, row["peak_rss_bytes"] / 1e6, bytes_text(row["peak_rss_bytes"]), row["color"])
        for row in rows
        if row["measured"] is not None
    ]
    figure = frame.figure(
        "Peak resident memory",
        "of a process that streams this model alone",
        plots.bars("Peak resident memory", bars, "MB (10^6 bytes)"),
    )
    columns = [
        ("peak\nresident, MB", scaled(1e6, "peak_rss_bytes")),
        ("graph’s\nfile, kB", scaled(1e3, "model_bytes")),
        ("kept per\nstream, kB", scaled(1e3, "state_bytes")),
    ]
    return html(frame.grid([figure] if bars else []), _table(columns, rows))


def _bar(row: Row, length: float, told: str, color: str) -> plots.Bar:
    part = (color, length, f"{row['name']}, {row['label']}: {told}")
    return plots.Bar(row["label"], [part], told, None, row["heading"])


def _table(columns: Sequence[Column], rows: Sequence[Row]) -> Html:
    told = [(heading, known(cell)) for heading, cell in columns]
    return table([("model", name("name")), ("from", name("label")), *told], rows)


def _boards(comparison: Mapping[str, Any], labels: list[str]) -> Html:
    known = [dict(conditions(board)) for board in comparison["boards"]]
    names = list(dict.fromkeys(name for each in known for name in each))
    rows = []
    for label, board, each in zip(labels, comparison["boards"], known):
        device = board["device"]
        facts = [device["cpu"], device["architecture"], device["cores"], device["os"]]
        facts += [board["runtime"], device["python"], board["started"]]
        rows.append(
            [
                cells.name(label),
                *(cells.name(fact) for fact in facts),
                *(cells.name(each.get(name, words.NOTHING)) for name in names),
            ]
        )
    head = ["from", "device", "architecture", "cores", "system", "runtime", "Python", "started"]
    return frame.table([*head, *names], rows)
