"""The experiment's runner on tiny tasks: rounds, rows in order, going on, several workers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "paper"))

import run
import tables
import tasks
from arms import Cell
from tables import cells_of, read
from tasks import Parts, Task

from s4edge.data.dataset import Data

SAMPLES, LENGTH = 24, 12


def tiny(shared: Path) -> Parts:
    """A class for each of ten slopes."""
    rng = np.random.default_rng(0)
    y = np.arange(SAMPLES) % 10
    x = (y[:, None] * np.linspace(0, 1, LENGTH) + rng.normal(size=(SAMPLES, LENGTH)))[:, :, None]
    data = Data(x.astype(np.float32), y, None, "slopes")
    return Parts(data, data, data)


@pytest.fixture(autouse=True)
def task(monkeypatch: pytest.MonkeyPatch) -> Task:
    task = Task("digits", tiny, 1, "linear", 4, 1, before=1, after=1, states=(2,))
    for module in (tables, tasks):
        monkeypatch.setitem(module.TASKS, "digits", task)
    monkeypatch.setattr(tables, "EPOCHS_BEFORE", (1, 2))
    return task


def call(out: Path, *arguments: str) -> Result:
    return CliRunner().invoke(run.main, [*arguments, "--out", str(out)])


def rows(out: Path, table: str = "digits") -> list[dict[str, Any]]:
    """Without what differs from call to call."""
    return [{**row, "seconds": ""} for row in read(out / f"{table}.csv")]


def test_rounds() -> None:
    cells = list(cells_of("digits", 0))
    assert [(cell.arm, cell.state) for cell in cells] == [
        ("b", 64), ("d", 1), ("e", 1), ("f", 1),
        ("a", 2), ("c", 2), ("d", 2), ("e", 2), ("f", 2),
    ]  # fmt: skip
    levels = run.rounds_of(cells, ())
    assert [{cell.arm for cell in level} for level in levels] == [set("ab"), set("cd"), set("ef")]
    assert sum(map(len, levels)) == len(cells)
    # What a row needs is made, too, though it has a row already.
    last = cells[-1]
    assert [[each.arm for each in level] for level in run.rounds_of([last], ())] == [
        ["b"], ["d"], ["f"],
    ]  # fmt: skip
    assert run.rounds_of([last], last.sources) == [[last]]
    assert run.rounds_of([], ()) == []


def test_correlation_rounds() -> None:
    cells = list(cells_of("correlation", 3))
    assert [(cell.arm, cell.before) for cell in cells] == [("c", 1), ("e", 1), ("c", 2), ("e", 2)]
    assert {cell.sources[-1] for cell in cells} == {
        Cell("digits", "b", 64, 3, epochs, 0) for epochs in (1, 2)
    }


def test_workers_and_going_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same table from one worker, from two, and from a call that was stopped."""
    one, two, cut = (tmp_path / name for name in ("one", "two", "cut"))
    assert call(one, "digits", "--seeds", "0").exit_code == 0
    whole = rows(one)
    assert [(row["arm"], row["state"]) for row in whole] == [
        (cell.arm, str(cell.state)) for cell in cells_of("digits", 0)
    ]
    assert call(two, "digits", "--seeds", "0", "--workers", "2").exit_code == 0
    assert rows(two) == whole

    model, made = Cell.model, []

    def stops(cell: Cell, *rest: Any) -> Any:
        made.append((cell.arm, cell.state))
        if len(made) == 5:
            raise KeyboardInterrupt
        return model(cell, *rest)

    monkeypatch.setattr(Cell, "model", stops)
    stopped = call(cut, "digits", "--seeds", "0")
    assert stopped.exit_code == 1
    assert "Aborted!" in stopped.output
    assert len(rows(cut)) == 4
    assert call(cut, "digits", "--seeds", "0").exit_code == 0
    assert rows(cut) == whole
    assert len(made) == len(whole) + 1
    assert call(cut, "digits", "--seeds", "0").exit_code == 0
    assert len(made) == len(whole) + 1


def test_a_run_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others go on, and what starts from it waits for the next call."""
    model = Cell.model

    def fails(cell: Cell, *rest: Any) -> Any:
        if cell.arm == "d" and cell.state == 2:
            raise ValueError("no")
        return model(cell, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Cell, "model", fails)
        outcome = call(tmp_path, "digits", "--seeds", "0")
    assert outcome.exit_code == 1
    assert "1 of 7 runs failed: digits-d-2-seed-0-epochs-1: ValueError: no" in outcome.output
    arms = [row["arm"] + row["state"] for row in rows(tmp_path)]
    assert arms == ["b64", "d1", "e1", "f1", "a2", "c2"]
    assert call(tmp_path, "digits", "--seeds", "0").exit_code == 0
    assert len(rows(tmp_path)) == 9


def test_correlation(tmp_path: Path) -> None:
    assert call(tmp_path, "correlation", "--seeds", "1,0").exit_code == 0
    found = rows(tmp_path, "correlation")
    assert [(row["seed"], row["epochs"], row["arm"]) for row in found] == [
        (seed, epochs, arm) for seed in "01" for epochs in "12" for arm in "ce"
    ]
    assert len({row["original"] for row in found if row["seed"] == "0"}) <= 2


def test_other_seeds_keep_their_place(tmp_path: Path, task: Task) -> None:
    """Rows of other calls stay, in order of seeds."""
    head = "task,arm,state,seed,accuracy,validation,epochs,seconds,real_states,parameters"
    (tmp_path / "digits.csv").write_text(f"{head}\ndigits,b,64,1,0.5,0.5,1,9.9,1,2\n")
    assert call(tmp_path, "digits", "--seeds", "0").exit_code == 0
    found = rows(tmp_path)
    assert [row["seed"] for row in found] == ["0"] * 9 + ["1"]
    assert found[-1]["accuracy"] == "0.5"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("digits", "--seeds", "x"), "--seeds x are no whole numbers"),
        (("digits", "--engine", "joblib"), "--engine joblib is none"),
        (("rubbish",), "Invalid value"),
    ],
)
def test_refused(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    outcome = call(tmp_path, *arguments)
    assert outcome.exit_code != 0
    assert says in outcome.output
