"""How the answer of a benchmark is put in words, whatever it is written into.

An answer is the object that ``s4edge bench --json`` prints, as a dict.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

Answer = Mapping[str, Any]

EMULATED = (
    "Emulated: no speed. Times and memory are the emulator's and say nothing about a real device."
)
NOTHING = "–"


def clean(text: object) -> str:
    """Give text that any page or terminal can show: one line, no control characters.

    File names may hold newlines, escape codes and bytes that are no UTF-8.
    """
    return "".join(
        "�" if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") else sign
        for sign in str(text)
    )


def digits(value: float | None) -> str:
    """Write three significant digits, or all before the point, in groups of three."""
    if value is None:
        return NOTHING
    size = abs(value)
    if size >= 99.95:
        return f"{value:,.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.9995 or size == 0 else f"{value:#.3g}"


def percent(share: float | None) -> str:
    """Write a fraction in percent."""
    return NOTHING if share is None else f"{100 * share:.3g} %"


def bytes_text(count: int | None) -> str:
    """Write a number of bytes, MB = 10^6 bytes and kB = 10^3 bytes."""
    if count is None:
        return NOTHING
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(count) >= 0.9995 * unit:
            return f"{digits(count / unit)} {name}"
    return f"{count} bytes"


def ratio_text(ratio: Mapping[str, float] | None) -> str:
    """Write a ratio with its interval: ``0.52 (0.50 to 0.54)``."""
    if ratio is None:
        return NOTHING
    value = f"{ratio['value']:.3f}"
    if ratio.get("low") is None or ratio.get("high") is None:
        return value
    return f"{value} ({ratio['low']:.3f} to {ratio['high']:.3f})"


def names(paths: Sequence[str]) -> list[str]:
    """Give file names where they tell the paths apart, else the paths, clean."""
    short = [PurePath(path).name for path in paths]
    told_apart = len(set(short)) == len(set(paths)) and all(short)
    return [clean(name) for name in (short if told_apart else paths)]


def is_emulated(answer: Answer) -> bool:
    """Tell whether the times are an emulator's."""
    return bool(answer["device"].get("emulated"))


def device_line(answer: Answer) -> str:
    """Say on what it was measured, in one line."""
    device = answer["device"]
    memory, cores = device.get("memory_bytes"), device.get("cores")
    facts = [
        f"{device['cpu']} ({device.get('architecture', 'unknown architecture')})",
        "" if cores is None else counted(cores, "core"),
        "" if memory is None else f"{memory / 1e9:.1f} GB",
        device.get("os") or "",
        counted(answer["threads"], "thread"),
        answer.get("runtime") or "",
        f"Python {device['python']}" if device.get("python") else "",
    ]
    return clean(", ".join(fact for fact in facts if fact))


def counted(count: int, what: str) -> str:
    """Write a number of things: ``1 thread``, ``2 threads``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def conditions(answer: Answer) -> list[tuple[str, str]]:
    """Give what is known of the machine while it measured, as name and value."""
    told = answer.get("conditions") or {}
    found = []
    if told.get("governor"):
        found.append(("Governor", clean(told["governor"])))
    clock = told.get("clock_mhz")
    if clock:
        low, high = (f"{clock[key]:,.0f}" for key in ("min", "max"))
        found.append(("Clock", f"{high} MHz" if low == high else f"{low} to {high} MHz"))
    temperature = told.get("temperature_c")
    if temperature:
        first, most = (f"{temperature[key]:.1f}" for key in ("start", "max"))
        found.append(("Temperature", f"{first} °C at the start, {most} °C at most"))
    if told.get("throttled") is not None:
        reasons = ", ".join(clean(reason) for reason in told.get("throttle_reasons") or ())
        yes = f"yes: {reasons}" if reasons else "yes"
        found.append(("Throttled", yes if told["throttled"] else "no"))
    if told.get("busy_others") is not None:
        busy = f"{percent(told['busy_others'])} of all cores' time"
        if told.get("busy_others_same_cores") is not None:
            busy += f", {percent(told['busy_others_same_cores'])} of the same cores'"
        found.append(("Other processes", busy))
    return found
