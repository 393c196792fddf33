"""One table of the experiment on the paper's claims.

    python benchmarks/paper/run.py digits|mnist-rows|spoken|listops|correlation
        [--seeds 0,1,2] [--shared FOLDER] [--out FOLDER] [--models FOLDER]
        [--workers N] [--threads T] [--engine local|dask[=ADDRESS]|ray[=ADDRESS]]

Every finished run is a line of ``<table>.csv`` at once, in the table's order whatever order
they end in; what is there is not run again. Models that others start from are kept in ``--models``.
``report.py`` makes ``docs/paper.md`` of the tables.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import arms
import click
import listops
import tables
import tasks
from arms import Cell
from tables import CORRELATION, Job, Row, Work, cells_of, key, key_of, read, task_of, write
from tasks import ROOT, TASKS

from s4edge.cli import terminal
from s4edge.cli.engine import engine_options
from s4edge.errors import S4EdgeError
from s4edge.model.file import load_model, save_model
from s4edge.workflows.independent_runs import Ended, Engine, HandOut, failures

RESULTS = Path(__file__).parent / "results"


def send_modules() -> None:
    """With what is sent: a cluster's machines have s4edge, but not this folder."""
    import cloudpickle

    for module in (arms, listops, tables, tasks):
        cloudpickle.register_pickle_by_value(module)


def rounds_of(wanted: Collection[Cell], made: Collection[Cell]) -> list[list[Cell]]:
    """Cells, and those they start from but that are made, so that each comes after its sources."""
    depth: dict[Cell, int] = {}

    def visit(cell: Cell) -> int:
        if cell not in depth:
            sources = [source for source in cell.sources if source not in made]
            depth[cell] = 1 + max(map(visit, sources), default=-1)
        return depth[cell]

    for cell in wanted:
        visit(cell)
    return [
        [cell for cell, each in depth.items() if each == level]
        for level in range(max(depth.values(), default=-1) + 1)
    ]


@dataclass
class Table:
    """A table on its way.

    Attributes:
        name: of it.
        path: of its file.
        models: folder of those that others start from.
        rows: so far.
        ended: runs of this call.
    """

    name: str
    path: Path
    models: Path
    rows: list[Row]
    ended: list[Ended[tuple[Row, arms.SequenceModel]]] = field(default_factory=list)

    def file(self, cell: Cell) -> Path:
        """Of a cell's model."""
        return self.models / f"{cell.name}.safetensors"

    def run(self, hand_out: HandOut, work: Work, seeds: Collection[int]) -> None:
        """All that is not there yet."""
        cells = [cell for seed in seeds for cell in cells_of(self.name, seed)]
        done = {key(self.name, row) for row in self.rows}
        wanted = [cell for cell in cells if key_of(self.name, cell) not in done]
        needed = {source for cell in wanted for source in cell.sources}
        needed |= {source for cell in needed for source in cell.sources}
        made = {cell for cell in needed if self.file(cell).exists()}
        levels = rounds_of(wanted, made)
        total, over = sum(map(len, levels)), 0
        with terminal.progress(f"{self.name}: {total} runs") as progress:
            for level in levels:
                cells_by_name = {cell.name: cell for cell in level if self.ready(cell)}
                jobs = {name: self.job(cell) for name, cell in cells_by_name.items()}
                for end in hand_out(work, jobs):
                    self.take(cells_by_name[end.name], end, needed)
                    over += 1
                    progress(over / total)

    def ready(self, cell: Cell) -> bool:
        """Whether its sources are there."""
        return all(self.file(source).exists() for source in cell.sources)

    def job(self, cell: Cell) -> Job:
        """With the models that it starts from."""
        return Job(cell, tuple(load_model(self.file(source)) for source in cell.sources))

    def take(
        self, cell: Cell, end: Ended[tuple[Row, arms.SequenceModel]], needed: Collection[Cell]
    ) -> None:
        """Keep what a run gave."""
        self.ended.append(end)
        if end.result is None:
            terminal.note(f"{end.name} failed: {end.problem}")
            return
        row, model = end.result
        if cell in needed:
            save_model(model, self.file(cell))
        if cell in cells_of(self.name, cell.seed):
            self.rows = [each for each in self.rows if key(self.name, each) != key(self.name, row)]
            self.rows.append(row)
            write(self.path, self.name, self.rows)
        terminal.console.print(*(f"{name}={value}" for name, value in row.items()), soft_wrap=True)


@click.command()
@click.argument("table", type=click.Choice([*TASKS, CORRELATION]))
@click.option("--seeds", default="0,1,2", show_default=True)
@click.option("--shared", type=click.Path(path_type=Path), default=ROOT.parent / "shared")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS)
@click.option("--models", type=click.Path(path_type=Path), help="[default: models in --out]")
@engine_options
def main(
    table: str, seeds: str, shared: Path, out: Path, models: Path | None,
    workers: int | None, threads: int | None, where: str,
) -> None:  # fmt: skip
    """Run what TABLE lacks, and write it."""
    try:
        wanted = [int(each) for each in seeds.split(",")]
    except ValueError as error:
        raise click.UsageError(f"--seeds {seeds} are no whole numbers") from error
    if where != "local":
        send_modules()
    models = models or out / "models"
    for folder in (out, models):
        folder.mkdir(exist_ok=True, parents=True)
    path = out / f"{table}.csv"
    found = Table(table, path, models, read(path) if path.exists() else [])
    task = task_of(table)
    try:
        # One thread each, unless told otherwise: so small models gain nothing from more.
        with Engine(where, workers, threads or 1).open(terminal.note) as hand_out:
            work = Work(table, task, task.load(shared))
            found.run(hand_out, work, wanted)
    except S4EdgeError as error:
        raise click.ClickException(str(error)) from error
    if problem := failures(found.ended):
        raise click.ClickException(f"{problem}; the same call begins again with these")


if __name__ == "__main__":
    main()
