"""Formats at the edges of their ranges, where a digit more or less is easily lost."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from s4edge.reports import numbers, palette
from s4edge.reports.frame import Html, exact, figure, html, table


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"), (float("nan"), "–"), (float("inf"), "∞"), (0, "0"), (3.0, "3"),
        (999_999, "999,999"), (2e6, "2.00 × 10⁶"), (12345.6, "12,346"), (123.4, "123"),
        (1.5, "1.50"), (0.001, "0.00100"), (0.00012345, "1.23 × 10⁻⁴"), (-1e-12, "-1.00 × 10⁻¹²"),
    ],
)  # fmt: skip
def test_numbers_of_any_size(value: float | None, shown: str) -> None:
    assert numbers.number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown", "narrow"),
    [
        (1234.5, "1,234", "1,234"), (99.96, "100", "100"), (99.94, "99.9", "99.9"),
        (9.996, "10.0", "10.0"), (9.99, "9.99", "9.99"), (0.9996, "1.00", "1.00"),
        (0.999, "0.999", "1.00"), (0.01234, "0.0123", "0.01"), (0, "0.00", "0.00"),
    ],
)  # fmt: skip
def test_three_digits(value: float, shown: str, narrow: str) -> None:
    assert numbers.digits(value) == shown
    assert numbers.digits(value, decimals=2) == narrow


@pytest.mark.parametrize(
    ("share", "shown", "short", "tenths"),
    [
        (0.5, "50.0 %", "50 %", "50.0 %"), (0.1234, "12.3 %", "12.3 %", "12.3 %"),
        (0.012, "1.20 %", "1.2 %", "1.2 %"), (0.000123, "0.012 %", "0.0123 %", "0.0123 %"),
        (0.0, "0 %", "0 %", "0 %"), (12.345, "1,234.5 %", "1,234 %", "1234.5 %"),
        (1e-6, "1.00 × 10⁻⁴ %", "0.0001 %", "0.0001 %"),
    ],
)  # fmt: skip
def test_percent(share: float, shown: str, short: str, tenths: str) -> None:
    assert numbers.percent(share) == shown
    assert numbers.short_percent(share) == short
    assert numbers.short_percent(share, tenths=True) == tenths


def test_sizes_ratios_and_ticks() -> None:
    sizes = [numbers.bytes_text(count) for count in (None, 12, 999, 1000, 999_600, 2_500_000_000)]
    assert sizes == ["–", "12 bytes", "999 bytes", "1.00 kB", "1.00 MB", "2.50 GB"]
    assert (
        numbers.ratio_text({"value": 0.5, "low": 0.49, "high": 0.512}) == "0.500 (0.490 to 0.512)"
    )
    assert numbers.ratio_text({"value": 0.5}) == "0.500"
    ticks = [numbers.tick(value) for value in (0, 0.5, 20_000, 100_000, 1e6, 3e-5)]
    assert ticks == ["0", "0.5", "20,000", "100,000", "10⁶", "3·10⁻⁵"]


def test_what_is_text_is_escaped_wherever_it_stands() -> None:
    evil = "<script>\"'&"
    shown = figure(evil, evil, Html("<svg></svg>"), [("s0", evil)]) + table([evil], [[evil]])
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;&quot;&#x27;&amp;") == 5
    assert "<svg></svg>" in shown
    assert table(["two\nlines"], []).count("two<br>lines") == 1
    assert html("a < ", Html("<b>b</b>")) == "a &lt; <b>b</b>"
    assert exact(0.1, "0.1") == '<data value="0.1">0.1</data>'
    assert exact(float("nan"), "–") == "–"


def test_every_colour_of_the_style_sheet_is_in_the_palette() -> None:
    sheet = (files("s4edge.reports") / "frame.css").read_text(encoding="utf-8")
    light, dark = palette.style().split("@media (prefers-color-scheme: dark)")
    for name in set(re.findall(r"var\(--([\w-]+)\)", sheet)):
        for half in (light, dark):
            assert half.count(f"--{name}: #") == 1
    assert not re.search(r"#[0-9a-f]{6}", sheet)
