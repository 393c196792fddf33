"""The page of a benchmark, taken apart; how it looks is for eyes in a browser."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from page_parser import Page
from sample_answer import sample_answer, sample_result

from s4edge.bench.compare import compare
from s4edge.reports.bench.bench_page import bench_page
from s4edge.reports.bench.compare_page import compare_page
from s4edge.reports.bench.plots import _thinned
from s4edge.reports.bench.svg import Axis, shortened

EVIL = "</svg><script>alert('1')</script>&amp;\"\n\x1b[31m\udcff.onnx"
EVIL_SHOWN = 'script>&amp;"��[31m�.onnx'


def numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """All numbers in an answer, with the path to each."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from numbers(each, f"{name}.{key}")
    elif isinstance(value, list):
        for each in value:
            yield from numbers(each, f"{name}[]")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield name, float(value)


def test_every_figure_is_in_a_table() -> None:
    answer = sample_answer(warnings=["one <thing> & another", "a second"])
    answer["results"][1]["energy_uj_per_sample"] = 12.3
    page = Page(bench_page(answer))
    values = set(page.values)
    for row in answer["results"]:
        left_out = ".histogram", ".ratio.low", ".ratio.high", ".ratio.confidence"
        for name, number in numbers(row):
            if not name.startswith(left_out):
                assert number in values, name
    for turn in answer["timeline"]:
        assert {turn["seconds"], turn["temperature_c"], turn["clock_mhz"]} <= values
    ratio = answer["results"][1]["ratio"]
    assert f"{ratio['value']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f})" in page.text["time"]
    for text in answer["warnings"]:
        assert text in page.text["summary"]
    # Before everything else.
    assert page.source.index("a second") < page.source.index("<nav")
    for fact in ("aarch64", "Linux 6.6.31", "onnxruntime 1.20.1", "on core 3", "ondemand",
                 "1,500 MHz", "48.0 °C at the start, 53.7 °C at most", "3 % of all"):  # fmt: skip
        assert fact in page.text["summary"]
    assert "mulated" not in page.text["summary"]
    sections = [found["id"] for tag, found in page.tags if tag == "section"]
    assert sections == ["time", "latency", "deadlines", "timeline", "memory", "start"]
    # Units beside the numbers.
    heads = " ".join(" ".join(table[0]) for tables in page.tables.values() for table in tables)
    for unit in ("µs", "MB", "kB", ", s", "%", "Hz", "°C", "MHz", "µJ"):
        assert unit in heads


def test_unknown_things_leave_no_trace() -> None:
    answer = sample_answer(("one.onnx",), (10.0,), rate=None, deadline_us=None, timeline=[])
    answer["device"]["memory_bytes"] = None
    answer["conditions"] = {
        "governor": None, "clock_mhz": None, "temperature_c": None, "throttled": None,
        "throttle_reasons": [], "busy_others": None,
    }  # fmt: skip
    for key in ("pss_bytes", "private_bytes"):
        answer["results"][0]["memory"][key] = None
    answer["results"][0]["rounds"] = answer["results"][0]["rounds"][:1]
    answer["results"][0]["state_size"] = None
    del answer["pinned_to"]
    page = Page(bench_page(answer))
    sections = [found["id"] for tag, found in page.tags if tag == "section"]
    assert sections == ["time", "latency", "memory", "start"]
    told = page.source.partition("</style>")[2]
    for word in ("None", "null", "nan", "Governor", "Throttled", "real-time", "µJ", "Ratio"):
        assert word not in told
    assert "1 round" in page.text["time"]


def test_times_of_an_emulator_are_no_speed() -> None:
    answer = sample_answer(interrupted=True)
    answer["device"]["emulated"] = True
    page = Page(bench_page(answer))
    assert "Emulated: no speed." in page.text["summary"]
    assert "Interrupted: results until then." in page.text["summary"]
    assert page.text["time"].count("Emulated: no speed.") == 2
    assert "Emulated: no speed." in page.text["timeline"]


def test_names_of_users_are_text() -> None:
    answer = sample_answer((EVIL, "b<i>.onnx"), device="<b>board</b>", warnings=[EVIL])
    answer["device"]["os"] = "<u>os"
    page = Page(bench_page(answer))
    assert not {"script", "u", "img"} & {tag for tag, _ in page.tags}
    for section in ("summary", "time", "latency", "timeline", "memory", "start"):
        assert EVIL_SHOWN in page.text[section]
    assert "<b>board</b>" in page.text["summary"]
    page.source.encode("utf-8")
    assert "\x1b" not in page.source


def rectangles(drawing: list[tuple[str, dict[str, str | None]]], kind: str) -> list[list[float]]:
    return [
        [float(str(found[key])) for key in ("x", "y", "width", "height")]
        for tag, found in drawing
        if tag == "rect" and kind in str(found["class"]).split()
    ]


def test_histogram_is_drawn_to_scale() -> None:
    answer = sample_answer(("one.onnx",), (10.0,))
    row = answer["results"][0]
    row["histogram"] = {"edges_us": [10, 20, 40, 80, 160], "counts": [1000, 100, 0, 1]}
    row["latency_us"] |= {"p50": 20.0, "p90": 40.0, "p99": 80.0, "p999": 160.0}
    (drawing,) = Page(bench_page(answer)).pictures["latency"]
    bars = rectangles(drawing, "bar")
    assert len(bars) == 3
    marks = [float(str(found["x1"])) for tag, found in drawing
             if tag == "line" and str(found["class"]).startswith("mark")]  # fmt: skip
    # Edges are powers of two and marks lie on them: even steps, bars between the marks.
    assert np.diff(marks) == pytest.approx([marks[1] - marks[0]] * 3, abs=0.15)
    step = marks[1] - marks[0]
    starts = [marks[0] - step, marks[0], marks[2]]
    assert [bar[0] for bar in bars] == pytest.approx(starts, abs=0.15)
    # A tenth of the runs is a step of height, whatever they are.
    heights = [bar[3] for bar in bars]
    decade = heights[0] - heights[1]
    assert decade == pytest.approx((heights[1] - heights[2]) / 2, abs=0.15)
    assert heights[2] > 2
    text = [found for tag, found in drawing if tag == "text"]
    assert len(text) >= 4


def test_memory_bars_are_as_long_as_their_numbers() -> None:
    answer = sample_answer(("one.onnx", "two.onnx"), (10.0, 20.0))
    split = {"runtime_bytes": 40_000_000, "model_bytes": 20_000_000, "state_bytes": 10_000_000}
    answer["results"][0]["memory"] |= {"peak_rss_bytes": 70_000_000, **split}
    answer["results"][1]["memory"] |= {"peak_rss_bytes": 80_000_000, **split}
    page = Page(bench_page(answer))
    (drawing,) = page.pictures["memory"]
    widths = [bar[2] for bar in rectangles(drawing, "bar")]
    unit = widths[2]
    assert widths[:3] == pytest.approx([4 * unit, 2 * unit, unit], abs=0.5)
    # What no part accounts for is drawn, too.
    assert widths[3:] == pytest.approx([4 * unit, 2 * unit, unit, unit], abs=0.5)
    assert "other" in page.text["memory"]


def test_timeline_shows_when_it_was_throttled() -> None:
    answer = sample_answer(("one.onnx",), (10.0,))
    for index, turn in enumerate(answer["timeline"]):
        turn["seconds"] = float(index + 1)
        turn["throttled"] = index in (4, 5, 19)
    page = Page(bench_page(answer))
    (drawing,) = page.pictures["timeline"]
    shades = rectangles(drawing, "throttled")
    # On each of three panels, from the end of the turn before: 4 to 6 s, and the last second.
    assert len(shades) == 6
    assert shades[0][2] == pytest.approx(2 * shades[1][2], abs=0.2)
    assert "Throttled where the ground is red." in page.text["timeline"]
    lines = [found for tag, found in drawing if tag == "polyline"]
    assert len(lines) == 3
    assert len(str(lines[0]["points"]).split()) == 20


def test_timeline_is_cut_where_nothing_was_measured() -> None:
    answer = sample_answer(("one.onnx",), (10.0,))
    for index, turn in enumerate(answer["timeline"]):
        turn["seconds"] = index + (30.0 if index > 11 else 0.0) + (30.0 if index > 18 else 0.0)
    (drawing,) = Page(bench_page(answer)).pictures["timeline"]
    lines = [str(found["points"]).split() for tag, found in drawing if tag == "polyline"]
    assert [len(line) for line in lines] == [12, 7, 1] * 3


def test_long_runs_keep_their_peaks() -> None:
    points = [(float(x), float(x % 7)) for x in range(50_000)]
    points[31_234] = (31_234.0, 99.0)
    points[7] = (7.0, -5.0)
    found = _thinned(points)
    assert len(found) <= 400
    assert {(31_234.0, 99.0), (7.0, -5.0)} <= set(found)
    assert found == sorted(found)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    ("low", "high"), [(0.7, 1.3), (52.9, 14_384.0), (100.0, 101.0), (1e-3, 5e6), (3.0, 3.0)]
)
def test_ticks_are_round_and_few(low: float, high: float, log: bool) -> None:
    axis = Axis(low, high, 0, 100, log)
    ticks = axis.ticks(6)
    assert 1 <= len(ticks) <= 6
    assert ticks == sorted(set(ticks))
    assert all(low * (1 - 1e-9) <= tick <= high * (1 + 1e-9) for tick in ticks)
    if high > low:
        for tick in ticks:
            digits = f"{tick:.10e}".partition("e")[0].rstrip("0").rstrip(".")
            assert len(digits) <= 5, tick
            share = (
                math.log(tick / low) / math.log(high / low) if log else (tick - low) / (high - low)
            )
            assert axis.at(tick) == pytest.approx(100 * share, abs=0.06)


def test_long_names_keep_their_ends() -> None:
    name = f"{'a' * 50}-s16-chunk16.onnx"
    found = shortened(name, 200)
    assert len(found) < 30
    assert found.startswith("aa")
    assert found.endswith("-chunk16.onnx")
    assert shortened("short.onnx", 200) == "short.onnx"


def test_many_models_and_long_runs_fit() -> None:
    names = [f"{'very-' * 20}{index}.onnx" for index in range(15)]
    answer = sample_answer(names, [10.0 * 3**index for index in range(15)])
    answer["timeline"] *= 30
    page = Page(bench_page(answer))
    assert len(page.pictures["latency"]) == 15
    assert "more are in the JSON" in page.text["timeline"]


def test_comparison() -> None:
    first = sample_answer(warnings=["first’s own"])
    second = sample_answer(us_per_sample=(640.0, 24.0), device="Zero <2>")
    third = copy.deepcopy(first)
    third["device"]["emulated"] = True
    third["results"] = [sample_result("only-<there>.onnx", 5.0)]
    comparison = compare(["a.json", "<b>.json", "qemu.json"], [first, second, third])
    page = Page(compare_page(comparison))
    assert "Emulated: no speed." in page.text["summary"]
    for text in comparison["warnings"]:
        assert text in page.text["summary"]
    (times,) = page.tables["time"]
    assert len(times) == 1 + 3 * 3
    row = next(cells for cells in times if cells[:2] == ["model-s64.onnx", "<b>.json"])
    assert row[2] == "640"
    assert row[3].startswith("10.000 (")
    (row,) = (cells for cells in times if cells[:2] == ["only-<there>.onnx", "qemu.json"])
    assert row[2] == "5.00 (emulated)"
    # One bar for each that was measured; the emulated one in grey.
    bars = [found for tag, found in page.pictures["time"][0] if tag == "rect"]
    assert len(bars) == 5
    assert [str(found["class"]) for found in bars].count("bar s-machine") == 1
    assert "Zero <2>" in page.text["conditions"]
    assert re.search(r"Grey: emulated, no speed", page.text["time"])
