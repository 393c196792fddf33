"""``s4edge bench --target``: C on an emulated microcontroller."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from s4edge.cli import terminal

if TYPE_CHECKING:
    from s4edge.bench.cortex_m import Figures


def bench_target(models: tuple[Path, ...], name: str, rate: float | None, as_json: bool) -> None:
    """Measure C files on a target. Arguments are those of the command."""
    from s4edge.bench.cortex_m import find_target, measure
    from s4edge.runtime.backends.c.source import read_c_description

    if not models:
        raise click.UsageError("--target takes .c files that s4edge export --c wrote")
    target = find_target(name)
    found = []
    for model in models:
        # Not the least of its reasons: a graph has none of these figures.
        described = read_c_description(model)
        figures = measure(model, target)
        found.append((model, figures, rate or described.rate))
    if as_json:
        rows = [_row(*each) for each in found]
        terminal.emit_json({"target": name, "floats": target.floats, "results": rows})
        return
    terminal.console.print(f"{name}, floats {target.floats}, emulated; instructions, not cycles.")
    for model, figures, each_rate in found:
        text = "\n".join(_told(model, figures, each_rate))
        terminal.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _row(model: Path, figures: Figures, rate: float | None) -> dict[str, Any]:
    row = {"model": str(model), **figures.to_json(), "rate": rate, "instructions_per_second": None}
    if rate is not None:
        row["instructions_per_second"] = figures.instructions_per_sample * rate
    return row


def _told(model: Path, figures: Figures, rate: float | None) -> list[str]:
    lines = [
        f"{model}: {figures.instructions_per_sample:,.0f} instructions a sample, "
        f"{figures.chunk_instructions_per_sample:,.0f} in chunks",
        f"  flash {figures.flash_bytes:,} bytes ({figures.code_bytes:,} of them code), "
        f"RAM {figures.ram_bytes:,}, stack {figures.step_stack_bytes:,} "
        f"({figures.chunk_stack_bytes:,} in chunks)",
    ]
    if rate is not None:
        clock = figures.instructions_per_sample * rate / 1e6
        lines.append(
            f"  {rate:g} samples a second are {clock:,.1f} million instructions a second: at one a "
            f"cycle, a clock of {clock:,.1f} MHz keeps up"
        )
    if figures.selftest:
        lines.append(f"  its self-test fails there, at sample {figures.selftest}")
    return lines
