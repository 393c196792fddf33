"""Numbers as people read them: each format once, as text."""

from __future__ import annotations

import math
from collections.abc import Mapping

from s4edge.bench.words import NOTHING

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def digits(value: float | None, decimals: int | None = None) -> str:
    """Write three significant digits, or all before the point, in groups of three.

    Args:
        value: the number.
        decimals: 2 where narrow columns have no room for more.
    """
    if value is None:
        return NOTHING
    size = abs(value)
    if size >= 99.95:
        return f"{value:,.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    fixed = size >= 0.9995 or size == 0 or decimals == 2
    return f"{value:.2f}" if fixed else f"{value:#.3g}"


def number(value: float | None) -> str:
    """Write three significant digits of a number of any size, and whole numbers whole."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞"
    if float(value).is_integer() and abs(value) < 1e6:
        return f"{value:,.0f}"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")
    factor, power = f"{value:.2e}".split("e")
    return f"{factor} × {power_of_ten(int(power))}"


def narrow(value: float) -> str:
    """Write two digits, or one, in six columns."""
    if value == 0:
        return "0"
    if value < 0.001:
        return f"{value:.0e}"
    return f"{value:#.2g}" if value < 0.995 else f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"


def tick(value: float) -> str:
    """Write a round value at an axis, without formulas."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:,.10g}"
    exponent = math.floor(math.log10(abs(value)) + 1e-9)
    factor = value / 10.0**exponent
    power = power_of_ten(exponent)
    return power if abs(factor - 1) < 1e-6 else f"{factor:.3g}·{power}"


def power_of_ten(exponent: int) -> str:
    """Write a power of ten with raised digits."""
    return "10" + str(exponent).translate(_SUPERSCRIPTS)


def from_to(before: float, after: float) -> str:
    """Write what a number was and what it is."""
    return f"{number(before)} → {number(after)}"


def percent(share: float | None) -> str:
    """Write a fraction in percent: 12.3 %, 1.20 %, 0.012 %."""
    if share is None or not math.isfinite(share):
        return number(share)
    value = 100 * share
    if 1e-3 <= value < 0.1:
        return f"{value:.2g} %"
    if value < 1e-3 or value >= 1e4:
        return f"{number(value)} %"
    return f"{value:.2f} %" if value < 10 else f"{value:,.1f} %"


def short_percent(share: float | None, tenths: bool = False, nothing: str = NOTHING) -> str:
    """Write a fraction in percent with three digits at most: 12.3 %, 1.2 %, 0.0123 %.

    Args:
        share: the fraction.
        tenths: whether 50 % is 50.0 %, as in a column.
        nothing: what stands where nothing is known.
    """
    if share is None:
        return nothing
    value = 100 * share
    if tenths and share >= 0.1:
        return f"{value:.1f} %"
    return f"{value:.3g} %" if value < 99.95 else f"{value:,.0f} %"


def duration(seconds: float) -> str:
    """Write a time."""
    return f"{seconds * 1e3:,.3g} ms" if seconds < 0.9995 else f"{seconds:,.4g} s"


def bytes_text(count: int | None) -> str:
    """Write a number of bytes, MB = 10^6 bytes and kB = 10^3 bytes."""
    if count is None:
        return NOTHING
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(count) >= 0.9995 * unit:
            return f"{digits(count / unit)} {name}"
    return f"{count} bytes"


def thousandths(value: float | None, nothing: str = "") -> str:
    """Write a ratio with three places."""
    return nothing if value is None else f"{value:.3f}"


def ratio_text(ratio: Mapping[str, float] | None) -> str:
    """Write a ratio with its interval: ``0.520 (0.500 to 0.540)``."""
    if ratio is None:
        return NOTHING
    low, high = ratio.get("low"), ratio.get("high")
    value = thousandths(ratio["value"])
    if low is None or high is None:
        return value
    return f"{value} ({thousandths(low)} to {thousandths(high)})"


def counted(count: int, what: str) -> str:
    """Write a number of things: ``1 thread``, ``2 threads``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
