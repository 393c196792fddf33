"""Compared benchmarks as one HTML file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from s4edge.bench import words
from s4edge.reports import frame, palette
from s4edge.reports.bench import cells, plots
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
    emulated = any(words.is_emulated(board) for board in boards)
    alarm = paragraph(EMULATED, "alarm") if emulated else ""
    title = " and ".join(labels) if len(labels) == 2 else f"{len(labels)} benchmarks"
    count = counted(len(comparison["models"]), "model")
    told = f"{count} side by side, matched by file name; ratios are to {labels[0]}."
    warnings = cells.warnings(comparison["warnings"])
    header = html(Html(f"<h1>{html(title)}</h1>\n"), paragraph(told), alarm, warnings)
    sections = [
        ("time", "Time per sample", _times(comparison, labels)),
        ("memory", "Memory", _memory(comparison, labels)),
        ("conditions", "Boards and conditions", _boards(comparison, labels)),
    ]
    return frame.document(f"{title}: s4edge bench", header, sections)


@dataclasses.dataclass(frozen=True)
class _Found:
    """A model on a board.

    Attributes:
        name: the model's.
        heading: its name where it is the first bar of the model, else nothing.
        label: the board's.
        index: of the board.
        row: its result, None where it has none of this model.
    """

    name: str
    heading: str
    label: str
    index: int
    row: Mapping[str, Any] | None

    @property
    def cells(self) -> list[str]:
        """Those that a table's row begins with."""
        return [cells.name(self.name), cells.name(self.label)]


def _found(comparison: Mapping[str, Any], labels: list[str]) -> Iterator[_Found]:
    """Each model on each board, model by model."""
    for model in comparison["models"]:
        name = heading = words.clean(model["model"])
        for index, (label, row) in enumerate(zip(labels, model["results"])):
            yield _Found(name, heading, label, index, row)
            if row is not None:
                heading = ""


def _times(comparison: Mapping[str, Any], labels: list[str]) -> Html:
    bars, ratios, rows = [], [], []
    emulated = [words.is_emulated(board) for board in comparison["boards"]]
    for found in _found(comparison, labels):
        row = found.row
        if row is None:
            rows.append([*found.cells, *[words.NOTHING] * 9])
            continue
        told = f"{digits(row['us_per_sample'])} µs"
        no_speed = " (emulated)" if emulated[found.index] else ""
        kind = "s-machine" if no_speed else f"s{found.index % palette.SERIES}"
        part = (kind, row["us_per_sample"], f"{found.name}, {found.label}: {told}{no_speed}")
        bars.append(plots.Bar(found.label, [part], told + no_speed, None, found.heading))
        if row["ratio"]:
            ratios.append((f"{found.name}, {found.label}", row["ratio"]))
        rows.append(
            [
                *found.cells,
                html(cells.number(row["us_per_sample"]), no_speed),
                cells.ratio(row["ratio"]),
                *(cells.number(row["latency_us"][key]) for key in ("p50", "p99", "p999")),
                cells.number(row["real_time_factor"]),
                frame.count(row["samples_per_run"]),
                frame.count(row["threads"]),
                cells.number(row["energy_uj_per_sample"]),
            ]
        )
    figures = []
    if bars:
        figures.append(
            frame.figure(
                "Time per sample",
                "Shorter is faster; the median of a run over its samples."
                + (" Grey: emulated, no speed." if any(emulated) else ""),
                plots.bars("Time per sample", bars, "µs per sample"),
            )
        )
    if ratios:
        figures.append(
            frame.figure(
                f"Ratio to {labels[0]}",
                "Left of the line is faster; 95 % intervals of what changed from round to round. "
                "What differed between the runs as a whole they do not know.",
                plots.intervals(f"Ratio to {labels[0]}", ratios, "ratio of time per sample"),
            )
        )
    head = ["model", "from", "time per\nsample, µs", "ratio", "µs per\nrun, p50", "p99", "p99.9"]
    head += ["real-time\nfactor", "samples\nper run", "threads", "energy per\nsample, µJ"]
    return html(frame.grid(figures), frame.table(head, rows))


def _memory(comparison: Mapping[str, Any], labels: list[str]) -> Html:
    bars, rows = [], []
    for found in _found(comparison, labels):
        row = found.row
        if row is None:
            rows.append([*found.cells, *[words.NOTHING] * 3])
            continue
        told, length = bytes_text(row["peak_rss_bytes"]), row["peak_rss_bytes"] / 1e6
        part = (f"s{found.index % palette.SERIES}", length, f"{found.name}, {found.label}: {told}")
        bars.append(plots.Bar(found.label, [part], told, None, found.heading))
        rows.append(
            [
                *found.cells,
                cells.scaled(row["peak_rss_bytes"], 1e6),
                cells.scaled(row["model_bytes"], 1e3),
                cells.scaled(row["state_bytes"], 1e3),
            ]
        )
    figure = frame.figure(
        "Peak resident memory",
        "of a process that streams this model alone",
        plots.bars("Peak resident memory", bars, "MB (10^6 bytes)"),
    )
    head = ["model", "from", "peak\nresident, MB", "graph’s\nfile, kB", "kept per\nstream, kB"]
    return html(frame.grid([figure] if bars else []), frame.table(head, rows))


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
