"""The pictures of the benchmark's page."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from s4edge.bench import words
from s4edge.reports.bench import svg
from s4edge.reports.bench.svg import LETTER, LINE, WIDTH, Axis
from s4edge.reports.frame import Html
from s4edge.reports.numbers import digits, ratio_text, tick
from s4edge.reports.palette import SERIES

# Points of a line that are drawn at most, and up to how many each gets a dot.
_MOST_POINTS, _MOST_DOTS = 400, 40
_MARKS = (("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p999", "p99.9"))


def histogram(row: Mapping[str, Any], low: float, high: float) -> Html:
    """Draw how many runs took how long.

    Args:
        row: a result.
        low: µs where the axis begins, the same for all models.
        high: where it ends.
    """
    edges, counts = row["histogram"]["edges_us"], row["histogram"]["counts"]
    left, right = 46.0, WIDTH - 8.0
    x_axis = Axis(low, high, left, right, log=True)
    marks = _placed(row["latency_us"], x_axis)
    top = 6 + LINE * (1 + max((level for *_, level in marks), default=0))
    bottom = top + 120
    # Logarithmic, so that a single slow run is seen beside thousands of others.
    y_axis = Axis(0.7, max([2, *counts]) * 1.2, bottom, top + 4, log=True)
    parts = [
        svg.scale_left(y_axis, left, right),
        svg.scale_below(x_axis, top, bottom, "µs per run"),
    ]
    for start, end, count in zip(edges, edges[1:], counts):
        if count:
            x1, x2, y = x_axis.at(start), x_axis.at(end), y_axis.at(count)
            told = f"{digits(start)} to {digits(end)} µs: {count:,} runs"
            parts.append(svg.box(x1, y, max(x2 - x1 - 0.4, 0.6), bottom - y, "bar", told))
    for name, value, x, label, anchor, level in marks:
        y = 4 + LINE * (1 + level)
        parts.append(svg.line(x, y - LINE + 4, x, bottom, f"mark {name}"))
        parts.append(svg.text(label, y, _mark_text(name, value), anchor))
    parts.append(svg.line(left, bottom, right, bottom, "base"))
    told = ", ".join(f"{name} {digits(row['latency_us'][key])} µs" for key, name in _MARKS)
    return svg.picture(
        f"Histogram of the latency of {words.clean(row['model'])}",
        f"{row['runs']:,} runs on two logarithmic axes, from {digits(edges[0])} to "
        f"{digits(edges[-1])} µs; {told}",
        bottom + 2 * LINE + 6,
        parts,
    )


def _mark_text(name: str, value: float) -> str:
    return f"{name.replace('p999', 'p99.9')} {digits(value)}"


def _placed(
    latency: Mapping[str, float], axis: Axis
) -> list[tuple[str, float, float, float, str, int]]:
    """Percentiles: name, value, place, and of their words the place, the anchor and the row."""
    found = []
    taken: list[list[tuple[float, float]]] = []
    for key, _ in _MARKS:
        x = axis.at(latency[key])
        width = LETTER * len(_mark_text(key, latency[key]))
        anchor = "start" if x + 3 + width <= WIDTH else "end"
        label = x + 3 if anchor == "start" else x - 3
        first = label if anchor == "start" else label - width
        # A line that goes down from a higher row passes through the lower ones.
        level = 0
        while level < len(taken) and any(
            first < end and start < first + width for start, end in taken[level]
        ):
            level += 1
        if level == len(taken):
            taken.append([])
        taken[level].append((first - 6, first + width + 6))
        found.append((key, latency[key], x, label, anchor, level))
    return found


@dataclasses.dataclass(frozen=True)
class Bar:
    """One bar of `bars`.

    Attributes:
        name: what it is of.
        parts: of each its class in the style sheet, its length, and what a pointer brings up.
        told: words behind it.
        spread: from where to where single values went, or None.
        heading: words above the name, where a group of bars begins.
    """

    name: str
    parts: Sequence[tuple[str, float, str]]
    told: str
    spread: tuple[float, float] | None = None
    heading: str = ""


def bars(title: str, rows: Sequence[Bar], caption: str) -> Html:
    """Draw bars from 0, each below its name."""
    longest = max(
        (max(sum(length for _, length, _ in row.parts), *(row.spread or (0.0,))) for row in rows),
        default=0.0,
    )
    room = LETTER * max((len(row.told) for row in rows), default=0) + 12
    axis = Axis(0, longest or 1.0, 4, max(WIDTH - room, WIDTH / 3))
    parts, y = [], 0.0
    for row in rows:
        if row.heading:
            parts.append(
                svg.text(4, y + LINE + 2, svg.shortened(row.heading, WIDTH - 8), "start", "strong")
            )
            y += LINE + 5
        parts.append(svg.text(4, y + LINE - 2, svg.shortened(row.name, WIDTH - 8)))
        y += LINE + 2
        x, total = axis.start, 0.0
        for kind, length, told in row.parts:
            total += length
            parts.append(svg.box(x, y, axis.at(total) - x, 12, f"bar {kind}", told))
            x = axis.at(total)
        if row.spread:
            low, high = (axis.at(value) for value in row.spread)
            x = max(x, high)
            for ends in (
                (low, y + 6, high, y + 6),
                (low, y + 3, low, y + 9),
                (high, y + 3, high, y + 9),
            ):
                parts.append(svg.line(*ends, "spread"))
        parts.append(svg.text(x + 5, y + 10, row.told, "start", "strong"))
        y += 20
    below = svg.scale_below(axis, 0, y, caption)
    told = "; ".join(f"{row.name}: {row.told}" for row in rows)
    return svg.picture(title, told, y + 2 * LINE + 6, [below, *parts])


def intervals(title: str, rows: Sequence[tuple[str, Mapping[str, float]]], caption: str) -> Html:
    """Draw ratios as dots with their intervals, on an axis around 1.

    Args:
        title: of the picture.
        rows: names and ratios.
        caption: of the axis.
    """
    ends = [
        ratio[key] for _, ratio in rows for key in ("value", "low", "high")
        if ratio.get(key) is not None
    ]  # fmt: skip
    low, high = min([1.0, *ends]), max([1.0, *ends])
    pad = (high / low) ** 0.06 * 1.005
    axis = Axis(low / pad, high * pad, 10, WIDTH - 10, log=True)
    parts, y = [], 0.0
    for name, ratio in rows:
        told = ratio_text(ratio)
        room = WIDTH - 16 - LETTER * len(told)
        parts.append(svg.text(4, y + LINE - 2, svg.shortened(name, room)))
        parts.append(svg.text(WIDTH - 4, y + LINE - 2, told, "end", "strong"))
        y += LINE + 9
        if ratio.get("low") is not None and ratio.get("high") is not None:
            first, last = axis.at(ratio["low"]), axis.at(ratio["high"])
            for line in (
                (first, y, last, y),
                (first, y - 4, first, y + 4),
                (last, y - 4, last, y + 4),
            ):
                parts.append(svg.line(*line, "interval"))
        parts.append(f'<circle cx="{axis.at(ratio["value"]):g}" cy="{y:g}" r="4" class="bar"/>')
        y += 13
    one = svg.line(axis.at(1), 0, axis.at(1), y, "mark")
    told = "; ".join(f"{name}: {ratio_text(ratio)}" for name, ratio in rows)
    below = svg.scale_below(axis, 0, y, caption)
    return svg.picture(title, told, y + 2 * LINE + 6, [below, one, *parts])


def timeline(turns: Sequence[Mapping[str, Any]], models: Mapping[str, str]) -> Html:
    """Draw time per sample, temperature and clock over the time of the benchmark.

    Args:
        turns: entries of the answer's timeline.
        models: names in the timeline, in order, and how they are shown.
    """
    panels = [("µs per sample", "us_per_sample")]
    for caption, key in (("°C", "temperature_c"), ("clock, MHz", "clock_mhz")):
        if any(turn.get(key) is not None for turn in turns):
            panels.append((caption, key))
    left, right = 46.0, WIDTH - 8.0
    x_axis = Axis(0.0, max(turn["seconds"] for turn in turns) or 1.0, left, right)
    parts, y = [], 4.0
    for caption, key in panels:
        parts.append(svg.text(4, y + LINE - 4, caption))
        top, bottom = y + LINE + 3, y + LINE + (110 if key == "us_per_sample" else 66)
        series = {
            name: [(t["seconds"], t[key]) for t in turns if t["model"] == name] for name in models
        } if key == "us_per_sample" else {
            "": [(t["seconds"], t[key]) for t in turns if t.get(key) is not None]
        }  # fmt: skip
        y_axis = _padded([v for line in series.values() for _, v in line], bottom, top)
        parts += _throttled(turns, x_axis, top, bottom)
        parts.append(svg.scale_left(y_axis, left, right, 3))
        for index, line in enumerate(series.values()):
            kind = f"s{index % SERIES}" if key == "us_per_sample" else "s-machine"
            for stretch in _stretches(line):
                points = [(x_axis.at(x), y_axis.at(v)) for x, v in _thinned(stretch)]
                parts.append(svg.path(points, f"line {kind}"))
                if len(line) <= _MOST_DOTS or len(points) == 1:
                    parts += [
                        f'<circle cx="{x:g}" cy="{v:g}" r="2.2" class="bar {kind}"/>'
                        for x, v in points
                    ]
        parts.append(svg.line(left, bottom, right, bottom, "base"))
        y = bottom + 9
    for value in x_axis.ticks(6):
        parts.append(svg.text(x_axis.at(value), y + LINE - 3, tick(value), "middle"))
    parts.append(
        svg.text((left + right) / 2, y + 2 * LINE - 2, "seconds since the start", "middle")
    )
    return svg.picture(
        "Timeline of the benchmark",
        f"{len(turns):,} turns of {len(models)} models over "
        f"{digits(x_axis.high)} seconds: " + ", ".join(caption for caption, _ in panels),
        y + 2 * LINE + 4,
        parts,
    )


def _padded(values: Sequence[float], bottom: float, top: float) -> Axis:
    low, high = min(values), max(values)
    if low > 0 and high / low > 4:
        return Axis(low / 1.1, high * 1.1, bottom, top, log=True)
    pad = 0.1 * (high - low) or 0.05 * abs(high) or 1.0
    return Axis(low - pad, high + pad, bottom, top)


def _throttled(
    turns: Sequence[Mapping[str, Any]], axis: Axis, top: float, bottom: float
) -> list[str]:
    """The turns in which the machine was throttled, from the end of the turn before."""
    found: list[str] = []
    before, begin = 0.0, None
    for turn in turns:
        if turn.get("throttled"):
            begin = before if begin is None else begin
        elif begin is not None:
            found.append(_shade(axis, begin, before, top, bottom))
            begin = None
        before = turn["seconds"]
    if begin is not None:
        found.append(_shade(axis, begin, before, top, bottom))
    return found


def _shade(axis: Axis, begin: float, end: float, top: float, bottom: float) -> str:
    told = f"throttled from {digits(begin)} to {digits(end)} s"
    x1, x2 = axis.at(begin), axis.at(end)
    return svg.box(x1, top, max(x2 - x1, 1), bottom - top, "throttled", told)


def _stretches(points: list[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Cut a line where nothing was measured for long, as while runs are paced for a deadline."""
    waits = [after[0] - before[0] for before, after in zip(points, points[1:])]
    longest = 5 * sorted(waits)[len(waits) // 2] if waits else 0.0
    cuts = [index + 1 for index, wait in enumerate(waits) if wait > longest]
    return [points[start:end] for start, end in zip([0, *cuts], [*cuts, len(points)])]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The lowest and the highest of each of few enough stretches, so that no peak is lost."""
    if len(points) <= _MOST_POINTS:
        return points
    size = -(-len(points) * 2 // _MOST_POINTS)
    found = []
    for start in range(0, len(points), size):
        some = points[start : start + size]
        low, high = (pick(some, key=lambda point: point[1]) for pick in (min, max))
        found += sorted({low, high})
    return found
