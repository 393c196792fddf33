"""One table of the experiment on the paper's claims.

    python benchmarks/paper/run.py digits|mnist-rows|spoken|listops|correlation
        [--seeds 0,1,2] [--shared FOLDER] [--out FOLDER]

Every finished run is a line of ``<table>.csv`` at once; what is there is not run again.
``report.py`` makes ``docs/paper.md`` of the tables.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import torch
from arms import (
    FURTHER,
    SCRATCH,
    Runs,
    accuracy,
    our_reduction,
    papers_reduction,
    start_of,
    trained,
)
from rich.console import Console
from tasks import LARGE, ROOT, TASKS

# Of the table of originals of different accuracy.
EPOCHS_BEFORE, EPOCHS_AFTER, STATE = (1, 2, 4, 8, 16), 5, 2


def correlation(shared: Path, seed: int) -> Iterator[dict[str, Any]]:
    """Originals trained shorter and longer, all reduced to one size and trained alike."""
    task = TASKS["digits"]
    parts = task.load(shared)
    for epochs in EPOCHS_BEFORE:
        original = trained(start_of(task, LARGE, seed), parts, SCRATCH, epochs, seed)
        for arm, small in (
            ("c", papers_reduction(original, STATE)),
            ("e", our_reduction(original, parts, STATE)),
        ):
            after = trained(small, parts, FURTHER, EPOCHS_AFTER, seed)
            yield {
                "seed": seed, "epochs": epochs, "arm": arm,
                "original": accuracy(original, parts.test),
                "reduced": accuracy(small, parts.test),
                "accuracy": accuracy(after, parts.test),
            }  # fmt: skip


def rows_of(
    table: str, shared: Path, seed: int, done: list[dict[str, str]]
) -> Iterator[dict[str, Any]]:
    """Of one seed, but those that are `done`."""
    if table == "correlation":
        have = {(int(each["epochs"]), each["arm"]) for each in done}
        if len(have) < 2 * len(EPOCHS_BEFORE):
            yield from (
                row for row in correlation(shared, seed) if (row["epochs"], row["arm"]) not in have
            )
        return
    task = TASKS[table]
    cells = {(each["arm"], int(each["state"])) for each in done}
    if len(cells) < 1 + 3 + 5 * len(task.states):  # b; d, e, f at state size 1; all at the others
        for run in Runs(task, task.load(shared), seed).rows(cells):
            yield dataclasses.asdict(run)


@click.command()
@click.argument("table", type=click.Choice([*TASKS, "correlation"]))
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--shared", type=click.Path(path_type=Path), default=ROOT.parent / "shared")
@click.option("--out", type=click.Path(path_type=Path), default=Path(__file__).parent / "results")
def main(table: str, seeds: str, shared: Path, out: Path) -> None:
    """Run TABLE and append to its CSV."""
    torch.set_num_threads(1)  # so small models gain nothing from more
    out.mkdir(exist_ok=True)
    path = out / f"{table}.csv"
    console = Console(soft_wrap=True)
    for seed in (int(each) for each in seeds.split(",")):
        done = [row for row in read(path) if row["seed"] == str(seed)] if path.exists() else []
        for row in rows_of(table, shared, seed, done):
            append(path, row)
            console.print(" ".join(f"{key}={value}" for key, value in row.items()))


def read(path: Path) -> list[dict[str, str]]:
    """The lines of a table."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, row: dict[str, Any]) -> None:
    """One line more."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
