"""Benchmark results for people; every table fits 80 columns, only model names wrap.

Units are in the headings: MB = 10^6 bytes, kB = 10^3 bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import rich.box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from s4edge.bench import words
from s4edge.bench.results import BenchResult, GraphResult
from s4edge.reports.numbers import digits, short_percent, thousandths


def bench_report(result: BenchResult, verbose: bool = False) -> list[RenderableType]:
    """Give what to print, part by part.

    Args:
        result: what was found.
        verbose: with the slowest runs, starts, memory by its parts and conditions.
    """
    parts: list[RenderableType] = [bench_table(result)]
    rows = result.results
    if len(rows) > 1 or any(row.rate_hz or row.deadline for row in rows):
        parts.append(_comparison(result))
    if verbose:
        parts += [_starts_and_tails(result), _memory(result), Text(_conditions(result))]
    return parts


def bench_table(result: BenchResult) -> RenderableType:
    """Set models side by side, one row each: latencies per run, throughput, sizes."""
    table = empty_table()
    table.add_column("\nmodel", overflow="fold")
    table.add_column("\nmode", no_wrap=True)
    add_numbers(
        table,
        *("µs/run\nmin", "\np50", "\np90", "\np99"),
        *("samples\nper s", "memory\nMB", "model\nkB", "state\nkB"),
    )
    for name, row in _named(result):
        table.add_row(
            Text(name),
            row.mode,
            *(_digits(row.latency_us[key]) for key in ("min", "p50", "p90", "p99")),
            _digits(row.samples_per_second),
            _digits(row.peak_rss_bytes / 1e6),
            _digits(row.model_bytes / 1e3),
            _digits(row.state_bytes / 1e3),
        )
    return Group(table, Text(_caption(result)))


def _comparison(result: BenchResult) -> RenderableType:
    """Time per sample against the first model's, real time and the deadline."""
    rows = result.results
    deadlines = [row.deadline for row in rows if row.deadline is not None]
    caption = []
    if any(row.ratio for row in rows):
        caption.append("time: over the first model's, with its 95 % interval")
    rates = sorted({row.rate_hz for row in rows if row.rate_hz is not None})
    if rates:
        listed = " and ".join(f"{rate:,g}" for rate in rates)
        caption.append(f"real time: share of it taken at {listed} samples per s")
    if deadlines:
        paced = any(each.period_us is not None for each in deadlines)
        caption.append(
            f"late: runs not over {_digits(deadlines[0].us)} µs after they were "
            + ("due at that rate" if paced else "begun")
        )
    table = empty_table()
    table.add_column("\nmodel", overflow="fold")
    add_numbers(table, "µs per\nsample")
    if any(row.ratio for row in rows):
        add_numbers(table, "\ntime", "\nfrom", "\nto")
    if rates:
        add_numbers(table, "real\ntime")
    if deadlines:
        add_numbers(table, "\nlate", "answered\nafter p99", "\nmax µs", "begun late\nby p99 µs")
    for name, row in _named(result):
        cells = [_digits(row.us_per_sample)]
        if any(each.ratio for each in rows):
            ratio = row.ratio
            cells += (
                ["", "", ""]
                if ratio is None
                else [thousandths(value, "?") for value in (ratio.value, ratio.low, ratio.high)]
            )
        if rates:
            cells.append(
                "" if row.real_time_factor is None else short_percent(row.real_time_factor)
            )
        if deadlines:
            late = row.deadline
            cells += (
                ["", "", "", ""]
                if late is None
                else [
                    short_percent(late.missed / late.runs),
                    _digits(late.response_us["p99"]),
                    _digits(late.response_us["max"]),
                    "" if late.jitter_us is None else _digits(late.jitter_us["p99"]),
                ]
            )
        table.add_row(Text(name), *cells)
    return Group(table, Text("\n".join(caption)))


def _starts_and_tails(result: BenchResult) -> RenderableType:
    table = empty_table()
    table.add_column("\nmodel", overflow="fold")
    add_numbers(
        table,
        *("\nruns", "µs/run\nmean", "\np99.9", "\nmax"),
        *("start to\nanswer s", "import\ns", "load\nms", "first\nrun µs"),
    )
    energy = any(row.energy_uj_per_sample is not None for row in result.results)
    if energy:
        add_numbers(table, "µJ per\nsample")
    for name, row in _named(result):
        start = row.cold_start
        table.add_row(
            Text(name),
            f"{row.runs:,}",
            *(_digits(row.latency_us[key]) for key in ("mean", "p999", "max")),
            _digits(start.first_answer_seconds),
            _digits(start.import_seconds),
            _digits(start.load_seconds * 1e3),
            _digits(start.first_run_us),
            *([_optional(row.energy_uj_per_sample)] if energy else []),
        )
    caption = "start: of a process of its own, the file being in the system's cache"
    return Group(table, Text(caption))


def _memory(result: BenchResult) -> RenderableType:
    table = empty_table()
    table.add_column("memory, MB\nmodel", overflow="fold")
    add_numbers(table, "\npeak", "\nruntime", "\nmodel", "\nstate", "\nshared", "\nprivate")
    for name, row in _named(result):
        memory = row.memory
        table.add_row(
            Text(name),
            *(
                _optional(None if value is None else value / 1e6, 3)
                for value in (
                    *(memory.peak_rss_bytes, memory.runtime_bytes, memory.model_bytes),
                    *(memory.state_bytes, memory.pss_bytes, memory.private_bytes),
                )
            ),
        )
    caption = (
        "peak = runtime (Python, numpy, onnxruntime) + model (loaded and run) + state;\n"
        "shared: what other processes use, too, divided among them; private: without it"
    )
    return Group(table, Text(caption))


def _conditions(result: BenchResult) -> str:
    found = result.conditions
    facts = []
    if result.pinned_to is not None:
        cores = ", ".join(map(str, result.pinned_to))
        facts.append(f"core{'' if len(result.pinned_to) == 1 else 's'} {cores}")
    if found.governor is not None:
        facts.append(f"governor {found.governor}")
    if found.clock_mhz is not None:
        facts.append(f"clock {found.clock_mhz['min']:,.0f} to {found.clock_mhz['max']:,.0f} MHz")
    if found.temperature_c is not None:
        start, most = found.temperature_c["start"], found.temperature_c["max"]
        facts.append(f"{start:.0f} °C at the start, {most:.0f} °C at most")
    if found.throttled is not None:
        reasons = ", ".join(found.throttle_reasons)
        facts.append(f"throttled: {reasons}" if found.throttled else "not throttled")
    if found.busy_others is not None:
        facts.append(f"others used {found.busy_others:.0%} of the CPU time")
    return "while measuring: " + (", ".join(facts) or "nothing known about the machine")


def empty_table() -> Table:
    """Make a table of 80 columns at most."""
    # The box's own divider is the one space between columns.
    return Table(box=rich.box.SIMPLE_HEAD, padding=0, pad_edge=False)


def add_numbers(table: Table, *headings: str) -> None:
    """Add columns of numbers."""
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)


def _caption(result: BenchResult) -> str:
    device = result.device
    memory = device["memory_bytes"]
    facts = [
        f"{device['cpu']} ({device['architecture']}), {device['cores']} cores",
        f"{int(memory) / 1e9:.1f} GB" if memory is not None else "",
        f"{result.threads} thread{'' if result.threads == 1 else 's'}",
        result.runtime,
    ]
    return (
        ("EMULATED: these times are no speed of any board\n" if device.get("emulated") else "")
        + ", ".join(fact for fact in facts if fact)
        + "\nmemory: peak resident of a process that streams this model alone"
    )


def _named(result: BenchResult) -> Sequence[tuple[str, GraphResult]]:
    """Give the rows, each with the name it is shown by."""
    return list(zip(words.names([row.model for row in result.results]), result.results))


def _optional(value: float | None, decimals: int | None = None) -> str:
    if value is None:
        return "?"
    return _digits(value) if decimals is None else f"{value:.{decimals}f}"


def _digits(value: float) -> str:
    return digits(value, decimals=2)
