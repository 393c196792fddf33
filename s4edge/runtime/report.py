"""Benchmark results for people."""

from __future__ import annotations

from pathlib import Path

import rich.box
from rich.table import Table
from rich.text import Text

from s4edge.runtime.bench import BenchResult


def bench_table(result: BenchResult) -> Table:
    """Set models side by side, one row each; fits 80 columns, only model names wrap.

    Units are in the headings: µs per run, MB = 10^6 bytes, kB = 10^3 bytes.
    """
    table = Table(
        box=rich.box.SIMPLE_HEAD,
        # The box's own divider is the one space between columns.
        padding=0,
        pad_edge=False,
        # As Text, for a bracket in a name is no markup.
        caption=Text(_caption(result)),
        caption_justify="left",
    )
    table.add_column("\nmodel", overflow="fold")
    table.add_column("\nmode", no_wrap=True)
    for heading in (
        *("µs/run\nmin", "\np50", "\np90", "\np99"),
        *("samples\nper s", "memory\nMB", "model\nkB", "state\nkB"),
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, row in zip(_names(result), result.results):
        table.add_row(
            Text(name),
            row.mode,
            *(_digits(row.latency_us[key]) for key in ("min", "p50", "p90", "p99")),
            _digits(row.samples_per_second),
            _digits(row.peak_rss_bytes / 1e6),
            _digits(row.model_bytes / 1e3),
            _digits(row.state_bytes / 1e3),
        )
    return table


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
        ", ".join(fact for fact in facts if fact)
        + "\nmemory: peak resident of a process that streams this model alone"
    )


def _names(result: BenchResult) -> list[str]:
    """Give file names where they tell the models apart, else the paths."""
    paths = [row.model for row in result.results]
    names = [Path(path).name for path in paths]
    return names if len(set(names)) == len(set(paths)) else paths


def _digits(value: float) -> str:
    """Write three significant digits, or all before the point, in groups of three."""
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
