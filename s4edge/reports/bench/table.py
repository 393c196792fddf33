"""Benchmark results for people; every table fits 80 columns, only model names wrap.

Units are in the headings: MB = 10^6 bytes, kB = 10^3 bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import rich.box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from s4edge.bench import words
from s4edge.bench.results import BenchResult, Deadline, GraphResult
from s4edge.reports.numbers import digits, short_percent, thousandths

# A heading, and the cell of a row.
Column = tuple[str, Callable[[GraphResult], str]]


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
    columns: list[Column] = [
        ("µs/run\nmin", lambda row: _digits(row.latency_us["min"])),
        ("\np50", lambda row: _digits(row.latency_us["p50"])),
        ("\np90", lambda row: _digits(row.latency_us["p90"])),
        ("\np99", lambda row: _digits(row.latency_us["p99"])),
        ("samples\nper s", lambda row: _digits(row.samples_per_second)),
        ("memory\nMB", lambda row: _digits(row.peak_rss_bytes / 1e6)),
        ("model\nkB", lambda row: _digits(row.model_bytes / 1e3)),
        ("state\nkB", lambda row: _digits(row.state_bytes / 1e3)),
    ]
    return _listed(result, columns, _caption(result), modes=True)


def _comparison(result: BenchResult) -> RenderableType:
    """Time per sample against the first model's, real time and the deadline."""
    rows = result.results
    columns: list[Column] = [("µs per\nsample", lambda row: _digits(row.us_per_sample))]
    caption = []
    if any(row.ratio for row in rows):
        caption.append("time: over the first model's, with its 95 % interval")
        columns += [
            ("\ntime", lambda row: thousandths(row.ratio.value) if row.ratio else ""),
            ("\nfrom", lambda row: thousandths(row.ratio.low, "?") if row.ratio else ""),
            ("\nto", lambda row: thousandths(row.ratio.high, "?") if row.ratio else ""),
        ]
    rates = sorted({row.rate_hz for row in rows if row.rate_hz is not None})
    if rates:
        listed = " and ".join(f"{rate:,g}" for rate in rates)
        caption.append(f"real time: share of it taken at {listed} samples per s")
        columns.append(("real\ntime", lambda row: short_percent(row.real_time_factor, nothing="")))
    deadlines = [row.deadline for row in rows if row.deadline is not None]
    if deadlines:
        paced = any(each.period_us is not None for each in deadlines)
        caption.append(
            f"late: runs not over {_digits(deadlines[0].us)} µs after they were "
            + ("due at that rate" if paced else "begun")
        )
        columns += [
            _of_deadline("\nlate", lambda late: short_percent(late.missed / late.runs)),
            _of_deadline("answered\nafter p99", lambda late: _digits(late.response_us["p99"])),
            _of_deadline("\nmax µs", lambda late: _digits(late.response_us["max"])),
            _of_deadline(
                "begun late\nby p99 µs",
                lambda late: "" if late.jitter_us is None else _digits(late.jitter_us["p99"]),
            ),
        ]
    return _listed(result, columns, "\n".join(caption))


def _of_deadline(heading: str, cell: Callable[[Deadline], str]) -> Column:
    return heading, lambda row: "" if row.deadline is None else cell(row.deadline)


def _starts_and_tails(result: BenchResult) -> RenderableType:
    columns: list[Column] = [
        ("\nruns", lambda row: f"{row.runs:,}"),
        ("µs/run\nmean", lambda row: _digits(row.latency_us["mean"])),
        ("\np99.9", lambda row: _digits(row.latency_us["p999"])),
        ("\nmax", lambda row: _digits(row.latency_us["max"])),
        ("start to\nanswer s", lambda row: _digits(row.cold_start.first_answer_seconds)),
        ("import\ns", lambda row: _digits(row.cold_start.import_seconds)),
        ("load\nms", lambda row: _digits(row.cold_start.load_seconds * 1e3)),
        ("first\nrun µs", lambda row: _digits(row.cold_start.first_run_us)),
    ]
    if any(row.energy_uj_per_sample is not None for row in result.results):
        columns.append(("µJ per\nsample", lambda row: _optional(row.energy_uj_per_sample)))
    if any(row.python_us is not None for row in result.results):
        columns.append(("Python\nadds µs", lambda row: _optional(row.python_us)))
    caption = "start: of a process of its own, the file being in the system's cache"
    return _listed(result, columns, caption)


def _memory(result: BenchResult) -> RenderableType:
    columns = [
        ("\npeak", _megabytes("peak_rss_bytes")),
        ("\nruntime", _megabytes("runtime_bytes")),
        ("\nmodel", _megabytes("model_bytes")),
        ("\nstate", _megabytes("state_bytes")),
        ("\nshared", _megabytes("pss_bytes")),
        ("\nprivate", _megabytes("private_bytes")),
    ]
    runtime = ", ".join(words.before_a_model(result.runtime))
    caption = (
        f"peak = runtime ({runtime}) + model (loaded and run) + state;\n"
        "shared: what other processes use, too, divided among them; private: without it"
    )
    return _listed(result, columns, caption, corner="memory, MB\nmodel")


def _megabytes(key: str) -> Callable[[GraphResult], str]:
    def cell(row: GraphResult) -> str:
        value = getattr(row.memory, key)
        return "?" if value is None else f"{value / 1e6:.3f}"

    return cell


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


def _listed(
    result: BenchResult,
    columns: Sequence[Column],
    caption: str,
    corner: str = "\nmodel",
    modes: bool = False,
) -> RenderableType:
    """A row a model, with a caption."""
    table = empty_table()
    table.add_column(corner, overflow="fold")
    if modes:
        table.add_column("\nmode", no_wrap=True)
    add_numbers(table, *(heading for heading, _ in columns))
    for name, row in zip(words.names([row.model for row in result.results]), result.results):
        table.add_row(Text(name), *[row.mode] * modes, *(cell(row) for _, cell in columns))
    return Group(table, Text(caption))


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


def _optional(value: float | None) -> str:
    return "?" if value is None else _digits(value)


def _digits(value: float) -> str:
    return digits(value, decimals=2)
