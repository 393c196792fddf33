"""Markdown of benchmarks, read back by a parser of Markdown that rich brings along."""

from __future__ import annotations

import html
import re

import pytest
from markdown_it import MarkdownIt
from sample_answer import sample_answer

from s4edge.bench.compare import compare
from s4edge.reports.bench.markdown import bench_markdown, code, compare_markdown

NAMES = [
    "plain_name_s16.onnx", "a|b.onnx", "`tick`.onnx", "``.onnx", "*star* _under_.onnx",
    "<b>&amp;.onnx", "[link](x).onnx", "@someone #1.onnx", "back\\slash\\|.onnx", "$x$ ~~y~~.onnx",
]  # fmt: skip


def read(text: str) -> tuple[list[list[str]], str]:
    """The cells of the table, and the HTML of all."""
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    plain = [[html.unescape(re.sub(r"</?code>", "", cell)) for cell in row] for row in cells]
    return plain, page


def test_one_row_per_model() -> None:
    answer = sample_answer(warnings=["first | warning", "second"])
    rows, page = read(bench_markdown(answer))
    head, first, second = rows
    assert head[:6] == [
        "model", "mode", "samples/run", "µs/sample", "ratio to the first", "p50 µs/run",
    ]  # fmt: skip
    assert first[:5] == ["model-s64.onnx", "step", "1", "64.0", "–"]
    assert second[:5] == ["model-s8.onnx", "step", "1", "48.0", "0.750 (0.735 to 0.772)"]
    named = dict(zip(head, second, strict=True))
    assert named["p99 µs/run"] == "72.0"
    assert named["max µs/run"] == "283"
    assert named["real-time factor"] == "0.192"
    assert named["missed deadlines"] == "5 of 2,500 (0.2 %) at 200 µs"
    assert (named["memory MB"], named["model kB"], named["state kB"]) == ("61.3", "102", "9.47")
    told = html.unescape(page.partition("<table>")[0])
    for fact in ("Raspberry Pi 4 Model B Rev 1.4 (aarch64), 4 cores, 4.0 GB", "1 thread",
                 "onnxruntime 1.20.1", "overnor ondemand", "53.7 °C at most",
                 "first | warning", "second"):  # fmt: skip
        assert fact in told
    assert "mulated" not in page


@pytest.mark.parametrize("name", NAMES)
def test_names_are_shown_as_they_are(name: str) -> None:
    answer = sample_answer((name, "other.onnx"), warnings=[f"{name} is slow"], device=name)
    rows, page = read(bench_markdown(answer))
    assert rows[1][0] == name
    assert len({len(row) for row in rows}) == 1
    told = html.unescape(page)
    assert f"<li>⚠ {name} is slow</li>" in told
    assert f"<strong>{name} (aarch64)" in told
    assert not re.search("<(a|em|b|del|script)[ >]", page)
    # Outside of code, where nobody is called and no issue is named.
    outside = re.sub(r"`+[^`]+`+", "", bench_markdown(answer)) if "`" not in name else ""
    assert "@" not in outside
    assert not re.search(r"(?<!&)#\d", outside)


def test_fence_is_longer_than_any_in_the_name() -> None:
    assert code("a") == "`a`"
    assert code("`a``b`") == "``` `a``b` ```"


def test_emulated_and_interrupted_come_first() -> None:
    answer = sample_answer(interrupted=True)
    answer["device"]["emulated"] = True
    lines = bench_markdown(answer).split("\n\n")
    assert lines[1].startswith("**Emulated: no speed.")
    assert lines[2] == "**Interrupted: results until then.**"


def test_comparison_has_a_row_for_each_board() -> None:
    first, second = sample_answer(), sample_answer(us_per_sample=(128.0, 24.0), device="Pi | Zero")
    second["results"].pop()
    second["device"]["emulated"] = True
    rows, page = read(compare_markdown(compare(["a.json", "b|c.json"], [first, second])))
    assert [row[:4] for row in rows] == [
        ["model", "from", "µs/sample", "ratio to a.json"],
        ["model-s64.onnx", "a.json", "64.0", "–"],
        ["model-s64.onnx", "b|c.json (emulated)", "128", "–"],
        ["model-s8.onnx", "a.json", "48.0", "–"],
        ["model-s8.onnx", "b|c.json (emulated)", "–", "–"],
    ]
    assert "Emulated: no speed" in page
    assert "model-s8.onnx: not in b|c.json" in html.unescape(page)
    assert "Pi | Zero (aarch64)" in html.unescape(page)
