"""Time and memory of balanced truncation: a whole model, and how both grow.

Random S4D-like layers. Balancing to order 16 alone, and with the measured H-infinity errors, for 6
layers of 512 channels with 32 conjugate pairs each (state size 64); then over channels and over
modes. Every row runs in a process of its own; memory is the process's peak less what it held before
it began.

    python benchmarks/scale.py [--repeats N] [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from threadpoolctl import threadpool_limits

from s4edge.compression.states.methods.balanced import balanced_truncation
from s4edge.systems.hinf import hinf_distance
from s4edge.systems.modes import Modes
from s4edge.systems.parallel import available_cores

LAYERS, CHANNELS, PAIRS, ORDER = 6, 512, 32, 16


def layer(channels: int, pairs: int, seed: int) -> Modes:
    """S4D-Lin-like modes: step sizes from 0.001 to 0.1, complex normal weights."""
    rng = np.random.default_rng(seed)
    step = 10 ** rng.uniform(-3, -1, (channels, 1))
    # An angle of 0 would be a real pole, one state instead of a pair.
    log_pole = step * (-0.5 + 1j * np.pi * np.maximum(np.arange(pairs), 1e-3))
    weight = rng.normal(size=(channels, pairs)) + 1j * rng.normal(size=(channels, pairs))
    return Modes.from_rows(log_pole, weight)


def peak_memory() -> int:
    """Bytes that this process held at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(layers: int, channels: int, pairs: int, errors: bool, repeats: int) -> dict[str, Any]:
    """In this process; everything loaded and warm before memory is first read."""
    order = min(ORDER, pairs)

    def run(modes: Modes) -> None:
        reduced = balanced_truncation(modes, np.full(modes.channels, order)).modes
        if errors:
            hinf_distance(modes, reduced)

    with threadpool_limits(1):
        run(layer(1, 2, 0))
        systems = [layer(channels, pairs, seed) for seed in range(layers)]
        before = peak_memory()
        seconds = []
        for _ in range(repeats):
            started = time.perf_counter()
            for modes in systems:
                run(modes)
            seconds.append(time.perf_counter() - started)
    return {"seconds": seconds, "bytes": peak_memory() - before}


def measure_apart(
    layers: int, channels: int, pairs: int, errors: bool, repeats: int
) -> dict[str, Any]:
    """The same in a process of its own."""
    case = {"layers": layers, "channels": channels, "pairs": pairs, "errors": errors}
    command = [sys.executable, __file__, "--one", json.dumps({**case, "repeats": repeats})]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {**case, **json.loads(done.stdout)}


def table(title: str, rows: list[dict[str, Any]]) -> Table:
    """Balancing alone beside balancing with errors, row by row."""
    out = Table(title=title)
    for heading in ("layers", "channels", "pairs", "balanced:\nseconds", "ms per\nchannel", "MB",
                    "with errors:\nseconds", "ms per\nchannel", "MB"):  # fmt: skip
        out.add_column(heading, justify="right")
    for plain, full in zip(rows[::2], rows[1::2], strict=True):
        cells = [str(plain[key]) for key in ("layers", "channels", "pairs")]
        for row in (plain, full):
            seconds = float(np.median(row["seconds"]))
            each = 1e3 * seconds / (row["layers"] * row["channels"])
            cells += [f"{seconds:.2f}", f"{each:.2f}", f"{row['bytes'] / 1e6:.0f}"]
        out.add_row(*cells)
    return out


def main() -> None:
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="the whole model only")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(**json.loads(arguments.one))))
        return
    console = Console(width=110)
    whole = f"{LAYERS} layers x {CHANNELS} channels, state {2 * PAIRS}, to order {ORDER}"
    cases = {f"{whole}, {available_cores()} cores": [(LAYERS, CHANNELS, PAIRS)]}
    if not arguments.quick:
        cases["Channels"] = [(1, channels, PAIRS) for channels in (64, 256, 1024, 4096)]
        cases["Modes"] = [(1, 256, pairs) for pairs in (8, 16, 32, 64)]
    results = {}
    for title, shapes in cases.items():
        everything = [(*shape, errors) for shape in shapes for errors in (False, True)]
        results[title] = [
            measure_apart(*case, arguments.repeats)
            for case in track(everything, title, console=console, transient=True)
        ]
        console.print(table(title, results[title]))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
