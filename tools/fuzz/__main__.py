"""Changed real files against every reader of files that come from elsewhere.

    python -m tools.fuzz --inputs 100000            # all readers, each with its share
    python -m tools.fuzz --inputs 20000 --reader npz --seed 3

An input is a function of seed, reader and number: real files (made by this repository's code, its
examples, upstream's checkpoints in ../shared if they are there) are changed by what is known of
their format, so that most get past the first check: pickles by instructions, zip archives within
their members with checksums made anew, JSON by values, graphs by fields. A process reads them in a
row; it may take 10 s of processor time and 1 GB of memory or address space for one, run nothing,
write nothing elsewhere. A reader may read an input or refuse it in one line (S4EdgeError; of a
command, ``Error: ...`` and status 1). Anything else is a fault: the input is kept with what was
seen, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from .driver import fuzz
from .readers import READERS
from .tally import Tally


def table(tallies: Mapping[str, Tally]) -> str:
    """Tallies as a table in Markdown."""
    lines = [
        "| reader | inputs | read | refused | faults | s | slowest, s | memory, MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    total = Tally()
    for tally in tallies.values():
        total.add(tally)
    for name, tally in (*tallies.items(), ("all", total)):
        counts = (tally.inputs, tally.read, tally.refused, tally.bugs)
        cells = [name, *(f"{count:,}" for count in counts), f"{tally.seconds:,.0f}"]
        cells += [f"{tally.slowest:.2f}", f"{tally.memory / 1e6:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write(tallies: Mapping[str, Tally], kept: Path) -> None:
    """Keep the tallies beside the inputs, also of a run that is ended early."""
    plain = {name: dataclasses.asdict(tally) for name, tally in tallies.items()}
    (kept / "tallies.json").write_text(json.dumps(plain, indent=1) + "\n")


def main() -> int:
    """Read the command line; fuzz; tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=100_000, help="in all (default: 100000)")
    parser.add_argument("--reader", action="append", choices=sorted(READERS), help="default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--processes", type=int, choices=(1, 2), default=2)
    parser.add_argument("--nice", type=int, default=10, help="default: 10")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-out"), help="default: fuzz-out")
    arguments = parser.parse_args()
    os.nice(arguments.nice)
    chosen = [READERS[name] for name in arguments.reader or READERS]
    weight = sum(reader.weight for reader in chosen)
    inputs = {each.name: round(arguments.inputs * each.weight / weight) for each in chosen}
    kept = arguments.keep.absolute()
    kept.mkdir(parents=True, exist_ok=True)
    shown = time.monotonic()

    def progress(tallies: Mapping[str, Tally]) -> None:
        nonlocal shown
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            done = sum(tally.inputs for tally in tallies.values())
            faults = sum(tally.bugs for tally in tallies.values())
            print(f"{done:,} of {arguments.inputs:,}, {faults} faults", file=sys.stderr, flush=True)
            write(tallies, kept)

    tallies = fuzz(
        chosen, inputs, arguments.seed, arguments.first, arguments.processes, kept, progress
    )
    print(table(tallies))
    write(tallies, kept)
    return 1 if any(tally.bugs for tally in tallies.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
