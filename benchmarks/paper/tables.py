"""The tables of the experiment: which cells, in which order, and what a row says of one."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arms import Cell, accuracy
from tasks import LARGE, TASKS, Parts, Task

from s4edge.files import write_text
from s4edge.model.sequence_model import SequenceModel
from s4edge.progress import Progress

Row = dict[str, Any]

# Of the table of originals of different accuracy.
CORRELATION = "correlation"
EPOCHS_BEFORE, EPOCHS_AFTER, STATE = (1, 2, 4, 8, 16), 5, 2


def task_of(table: str) -> Task:
    """Of a table's cells."""
    return TASKS["digits" if table == CORRELATION else table]


def cells_of(table: str, seed: int) -> Iterator[Cell]:
    """Those that have a row, in the order of the table."""
    task = task_of(table)
    if table == CORRELATION:
        for epochs in EPOCHS_BEFORE:
            for arm in "ce":
                yield Cell(task.name, arm, STATE, seed, epochs, EPOCHS_AFTER)
        return
    yield Cell(task.name, "b", LARGE, seed, task.before, 0)
    for state in (1, *task.states):
        for arm in "def" if state == 1 else "acdef":  # one real state is no conjugate pair
            yield Cell(task.name, arm, state, seed, task.before, 0 if arm == "d" else task.after)


def key(table: str, row: Row) -> tuple[str, ...]:
    """What tells a row from the others of its table."""
    names = ("seed", "epochs", "arm") if table == CORRELATION else ("seed", "state", "arm")
    return tuple(str(row[name]) for name in names)


def key_of(table: str, cell: Cell) -> tuple[str, ...]:
    """The same of the row that a cell will have."""
    second = cell.before if table == CORRELATION else cell.state
    return str(cell.seed), str(second), cell.arm


@dataclass(frozen=True)
class Job:
    """A cell with the models that it starts from."""

    cell: Cell
    sources: tuple[SequenceModel, ...]


@dataclass(frozen=True)
class Work:
    """What does a job of a table. Attributes: ``table``, and the task with its data."""

    table: str
    task: Task
    parts: Parts

    def __call__(self, job: Job, progress: Progress) -> tuple[Row, SequenceModel]:
        """The row, and the model."""
        cell, parts = job.cell, self.parts
        began = time.perf_counter()
        start = cell.start(self.task, parts, job.sources)
        model = cell.model(start, parts, job.sources)
        seconds = round(time.perf_counter() - began, 1)
        if self.table == CORRELATION and job.sources:
            return {
                "seed": cell.seed, "epochs": cell.before, "arm": cell.arm,
                "original": accuracy(job.sources[-1], parts.test),
                "reduced": accuracy(start, parts.test),
                "accuracy": accuracy(model, parts.test),
            }, model  # fmt: skip
        return {
            "task": cell.task, "arm": cell.arm, "state": cell.state, "seed": cell.seed,
            "accuracy": accuracy(model, parts.test),
            "validation": accuracy(model, parts.validation),
            "epochs": cell.epochs, "seconds": seconds,
            "real_states": model.config.real_states, "parameters": model.parameter_count(),
        }, model  # fmt: skip


def read(path: Path) -> list[Row]:
    """The rows of a table."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, table: str, rows: Iterable[Row]) -> None:
    """Rows in the order of the table, whatever order they were made in; the file as a whole."""
    by_key = {key(table, row): row for row in rows}
    seeds = sorted({int(row["seed"]) for row in by_key.values()})
    order = [key_of(table, cell) for seed in seeds for cell in cells_of(table, seed)]
    found = [by_key[each] for each in order if each in by_key]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, found[0])
    writer.writeheader()
    writer.writerows(found)
    write_text(path, text.getvalue())
