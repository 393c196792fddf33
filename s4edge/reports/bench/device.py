"""What an answer was measured on and under what conditions, in words."""

from __future__ import annotations

from s4edge.bench.words import Answer, clean
from s4edge.reports.numbers import counted, short_percent

EMULATED = (
    "Emulated: no speed. Times and memory are the emulator's and say nothing about a real device."
)


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
        busy = f"{short_percent(told['busy_others'])} of all cores' time"
        if told.get("busy_others_same_cores") is not None:
            busy += f", {short_percent(told['busy_others_same_cores'])} of the same cores'"
        found.append(("Other processes", busy))
    return found


def condition_line(answer: Answer) -> str:
    """Say under what conditions it was measured, in one line; empty where nothing is known."""
    return "; ".join(f"{name.lower()} {value}" for name, value in conditions(answer))


def board_line(answer: Answer) -> str:
    """Say both, in one line."""
    told = condition_line(answer)
    return device_line(answer) + (f"; {told}" if told else "")
