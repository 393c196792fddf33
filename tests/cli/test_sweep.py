"""``s4edge sweep``."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_checkpoints as tiny
from s4edge_command import call, snapshot

from s4edge.errors import S4EdgeError
from s4edge.workflows import sweep
from s4edge.workflows.sweep import parse_sizes

COUNT = 10
POINT = {"real_states", "state", "parameters", "output_error", "predicted", "metric", "value"}
CALIBRATED = ("--calibrate", "x.npz")
WRITTEN = {"csv": "table.csv", "plot": "curve.svg", "report": "page.html"}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with tiny checkpoints and data for them."""
    tiny.write(tmp_path / "s4d.pt", tiny.s4d())
    tiny.write(tmp_path / "dss.pt", tiny.dss())
    tiny.write(tmp_path / "growing.pt", tiny.dss("softmax", grows=True))
    generator = np.random.default_rng(0)
    x = generator.standard_normal((COUNT, tiny.LENGTH, 1)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    np.savez(tmp_path / "xy.npz", x=x, y=generator.integers(0, tiny.D_OUTPUT, COUNT))
    np.savez(tmp_path / "wide.npz", x=x.repeat(2, axis=2), y=np.zeros(COUNT, np.int64))
    return tmp_path


def answer(folder: Path, *arguments: str) -> dict[str, Any]:
    outcome = call(folder, "sweep", *arguments, "--json")
    assert outcome.crash is None
    assert outcome.status == 0, outcome.stderr
    found: dict[str, Any] = json.loads(outcome.stdout)
    assert all(point.keys() == POINT for point in found["points"])
    states = [point["real_states"] for point in found["points"]]
    assert states == sorted(states, reverse=True)
    return found


def test_points(small: Path) -> None:
    found = answer(small, "s4d.pt", "--states", "2,4", "--data", "xy.npz", *CALIBRATED)
    assert (found["method"], found["allocate"], found["refine"]) == ("balanced", "uniform", True)
    original, *others = found["points"]
    assert (original["state"], original["real_states"]) == (8, 56)
    assert original["output_error"] is original["predicted"] is None
    assert [point["state"] for point in others] == [4, 2]
    assert others[0]["output_error"] < others[1]["output_error"]
    score = json.loads(call(small, "eval", "s4d.pt", "--data", "xy.npz", "--json").stdout)
    assert all(point["metric"] == "accuracy" for point in found["points"])
    assert original["value"] == score["value"]
    assert set(snapshot(small)) == {"s4d.pt", "dss.pt", "growing.pt", "x.npz", "xy.npz", "wide.npz"}


@pytest.mark.parametrize("how", [(), ("--allocate", "sensitivity")])
def test_same_as_compress(small: Path, how: tuple[str, ...]) -> None:
    arguments = ("s4d.pt", *CALIBRATED, *how)
    points = answer(small, *arguments, "--states", "4,2")["points"]
    for point, state in zip(points[1:], ("4", "2"), strict=True):
        outcome = call(
            small, "compress", *arguments, "--state", state, "-o", "out.safetensors", "--json"
        )
        found = json.loads(outcome.stdout)
        assert point["real_states"] == found["real_states"]["after"]
        assert point["parameters"] == found["parameters"]["after"]
        assert point["output_error"] == pytest.approx(found["output_error"]["measured"])
        assert point["predicted"] == pytest.approx(found["output_error"]["predicted"])


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("32,16,8", [32, 16, 8]), ("8,16,8", [16, 8]), ("2:32", [32, 16, 8, 4, 2]),
     ("3:20", [20, 10, 5]), ("4:4", [4]), ("1:64", [64, 32, 16, 8, 4, 2, 1]), (" 4, 2 ", [4, 2])],
)  # fmt: skip
def test_sizes(text: str, sizes: list[int]) -> None:
    assert parse_sizes(text, 64) == sizes


@pytest.mark.parametrize(
    "text", ["", ",", "x", "4,", "0", "-1", "65", "1:65", "2:", ":4", "8:2", "1:2:3", "4.5", "0:0"]
)
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(S4EdgeError, match="give state sizes from 1 to 64"):
        parse_sizes(text, 64)


def test_sizes_by_default(small: Path) -> None:
    """Halves, as far as growing modes leave room."""
    for model, sizes in (("s4d.pt", [8, 4, 2, 1]), ("growing.pt", [8, 4, 2])):
        found = answer(small, model, *(("--set", "length=12") if sizes[-1] == 2 else ()))
        assert [point["state"] for point in found["points"]] == sizes


def test_shared_modes(small: Path) -> None:
    found = answer(small, "dss.pt", "--states", "4,1", "--method", "shared-modes", *CALIBRATED)
    assert found["refine"] is False
    assert [point["real_states"] for point in found["points"]] == [128, 64, 16]


def test_shipped_checkpoint(built: Path) -> None:
    found = answer(built, "model.pt", "--states", "32,8", "--data", "digits.npz")
    assert [point["real_states"] for point in found["points"]] == [9216, 4608, 1152]
    values = [point["value"] for point in found["points"]]
    assert values[0] >= values[1] > 0.95
    assert values[2] < values[1]


def test_for_people(small: Path) -> None:
    outcome = call(small, "sweep", "s4d.pt", "--states", "4", "--data", "xy.npz", *CALIBRATED)
    assert outcome.status == 0
    for words in ("balanced, refined", "accuracy", "predicted", "real states"):
        assert words in outcome.stdout
    plain = call(small, "sweep", "s4d.pt", "--states", "4").stdout
    assert "accuracy (" not in plain
    assert "predicted" not in plain


# What it writes


def arguments_to_write() -> list[str]:
    return [part for key, name in WRITTEN.items() for part in (f"--{key}", name)]


def test_files(small: Path) -> None:
    before = set(snapshot(small))
    for name in WRITTEN.values():
        (small / name).write_text("the old file")
    found = answer(
        small, "s4d.pt", "--states", "4,2", "--data", "xy.npz", *CALIBRATED, "--allocate",
        "sensitivity", *arguments_to_write(),
    )  # fmt: skip
    assert {key: found[key] for key in WRITTEN} == WRITTEN
    assert set(snapshot(small)) == before | set(WRITTEN.values())
    with open(small / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found["points"]) == 3
    for row, point in zip(rows, found["points"], strict=True):
        assert set(row) == POINT
        for name, value in point.items():
            assert row[name] == ("" if value is None else str(value))
    assert (small / "curve.svg").read_text().rstrip().endswith("</svg>")
    assert (small / "page.html").read_text().rstrip().endswith("</html>")


@pytest.mark.parametrize(("key", "old"), [("csv", False), ("plot", False), ("report", True)])
def test_failing_rename(small: Path, monkeypatch: pytest.MonkeyPatch, key: str, old: bool) -> None:
    """The old file or none, and no temporary one."""
    if old:
        (small / WRITTEN[key]).write_text("the old file")
    before, replace = snapshot(small), os.replace

    def fail(source: Any, target: Any) -> None:
        if Path(target).name == WRITTEN[key]:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    outcome = call(
        small, "sweep", "s4d.pt", "--states", "4", "--data", "xy.npz", f"--{key}", WRITTEN[key],
        "--json",
    )  # fmt: skip
    assert (outcome.status, outcome.stdout) == (1, "")
    assert outcome.last_line == f"Error: cannot write {WRITTEN[key]}: No space left on device"
    assert snapshot(small) == before


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("what", ["errors", "values", "curve", "nothing lost", "constant"])
def test_plots(small: Path, what: str) -> None:
    """Whatever there is to draw."""
    arguments = {
        "errors": ("s4d.pt", "--states", "4", *CALIBRATED),
        "values": ("s4d.pt", "--states", "4", "--data", "xy.npz"),
        "curve": ("s4d.pt", "--states", "4", *CALIBRATED, "--allocate", "sensitivity"),
        "nothing lost": ("s4d.pt", "--states", "8", *CALIBRATED),
        "constant": ("constant.pt", "--states", "4", *CALIBRATED, "--allocate", "sensitivity"),
    }[what]
    state = tiny.s4d()
    state["decoder.weight"][:] = 0
    tiny.write(small / "constant.pt", state)
    found = answer(small, *arguments, "--plot", "curve.png")
    assert found["plot"] == "curve.png"
    assert (small / "curve.png").read_bytes().startswith(b"\x89PNG")


# Runs of their own


HOW = ("s4d.pt", "--data", "xy.npz", *CALIBRATED, "--allocate", "sensitivity")


def test_workers(small: Path) -> None:
    """The same table, and the same files, to the last bit."""
    one = answer(small, *HOW, "--states", "4,1", "--keep", "one", "--csv", "one.csv")
    both = ("--csv", "two.csv", "--workers", "2")
    two = answer(small, *HOW, "--states", "4,1", "--keep", "two", *both)
    assert one["points"] == two["points"]
    assert (small / "one.csv").read_bytes() == (small / "two.csv").read_bytes()
    assert snapshot(small / "one") == snapshot(small / "two")
    assert two["keep"] == "two"


def test_goes_on(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept is not made again, and gives the same table and page."""
    how = (*HOW, "--no-refine")
    whole = answer(small, *how, "--states", "4,2,1", "--report", "whole.html")
    answer(small, *how, "--states", "4,1", "--keep", "kept")
    before, made = snapshot(small / "kept"), []
    assert set(before) == {"s4d-s4.safetensors", "s4d-s1.safetensors", "sweep.json"}
    to_state = sweep.to_state

    def counted(prepared: Any, size: int, progress: Any) -> Any:
        made.append(size)
        return to_state(prepared, size, progress)

    monkeypatch.setattr(sweep, "to_state", counted)
    again = answer(small, *how, "--states", "4,2,1", "--keep", "kept", "--report", "again.html")
    assert made == [2]
    assert again["points"] == whole["points"]
    assert (small / "again.html").read_bytes() == (small / "whole.html").read_bytes()
    (small / "kept" / "s4d-s2.safetensors").unlink()
    assert answer(small, *how, "--states", "4,2,1", "--keep", "kept")["points"] == whole["points"]
    assert made == [2, 2]
    assert json.loads(call(small, "inspect", "kept/s4d-s2.safetensors", "--json").stdout)


def test_a_size_that_fails(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, and the others are there."""
    to_state = sweep.to_state

    def fails(prepared: Any, size: int, progress: Any) -> Any:
        if size in failing:
            raise S4EdgeError("it cannot be")
        return to_state(prepared, size, progress)

    monkeypatch.setattr(sweep, "to_state", fails)
    failing = {2}
    outcome = call(small, "sweep", "s4d.pt", "--states", "4,2,1", "--csv", "table.csv", "--json")
    assert (outcome.status, outcome.crash) == (1, None)
    assert outcome.last_line == "Error: 1 of 3 runs failed: state size 2: it cannot be"
    assert [point["state"] for point in json.loads(outcome.stdout)["points"]] == [8, 4, 1]
    assert len((small / "table.csv").read_text().splitlines()) == 4
    failing = {4, 1}
    outcome = call(small, "sweep", "s4d.pt", "--states", "4,1", "--csv", "no.csv", "--json")
    assert (outcome.status, outcome.stdout) == (1, "")
    assert "2 of 2 runs failed" in outcome.last_line
    assert not (small / "no.csv").exists()


@pytest.mark.parametrize("keep", [True, False])
def test_stopped(small: Path, monkeypatch: pytest.MonkeyPatch, keep: bool) -> None:
    """Ctrl-C leaves what is done, and says so."""
    to_state = sweep.to_state

    def stops(prepared: Any, size: int, progress: Any) -> Any:
        if size == 1:
            raise KeyboardInterrupt
        return to_state(prepared, size, progress)

    arguments = ("sweep", "s4d.pt", "--states", "4,2,1", "--csv", "table.csv", "--json")
    kept = ("--keep", "kept") if keep else ()
    with monkeypatch.context() as patch:
        patch.setattr(sweep, "to_state", stops)
        outcome = call(small, *arguments, *kept)
    assert (outcome.status, outcome.stdout) == (1, "")
    (said,) = (line for line in outcome.stderr.splitlines() if line.startswith("Stopped"))
    assert outcome.last_line == "Aborted!"
    assert not (small / "table.csv").exists()
    if keep:
        assert said == "Stopped; kept keeps 2 of 3 sizes, and the same call goes on after them."
        assert len(json.loads((small / "kept" / "sweep.json").read_text())["points"]) == 2
        assert call(small, *arguments, *kept).status == 0
    else:
        assert said.startswith("Stopped; nothing was written (--keep FOLDER")


def test_another_sweep(small: Path) -> None:
    arguments = ("sweep", "s4d.pt", "--states", "4", "--keep", "kept")
    assert call(small, *arguments).status == 0
    before = snapshot(small)
    outcome = call(small, *arguments, "--data", "xy.npz", "--method", "modal")
    assert (outcome.status, outcome.stdout) == (1, "")
    assert "kept keeps another sweep (data, method differ): call it as before" in outcome.last_line
    assert snapshot(small) == before
    for text in ("", "{}", "[]", "rubbish", '{"what": {}, "points": {"4": {"x": 1}}}'):
        (small / "kept" / "sweep.json").write_text(text)
        outcome = call(small, *arguments)
        assert (outcome.status, outcome.crash) == (1, None)
        assert "sweep.json is damaged; delete it or name another folder" in outcome.last_line


# What is refused


@pytest.mark.parametrize(
    ("arguments", "says", "status"),
    [
        *((f"s4d.pt --states {text}", f"--states {text} cannot be used", 1)
          for text in ("rubbish", "0", "9", "4:", "8:2")),
        ("gone.pt", "gone.pt does not exist", 1),
        ("s4d.pt --data x.npz", "x.npz holds no 'y'", 1),
        ("s4d.pt --data gone.npz", "the data gone.npz does not exist", 1),
        ("s4d.pt --data wide.npz", "the model takes (batch, length, 1)", 1),
        ("s4d.pt --calibrate wide.npz", "wide.npz does not fit", 1),
        ("s4d.pt --allocate sensitivity", "add --calibrate DATA", 1),
        ("s4d.pt --refine", "add --calibrate DATA", 1),
        ("s4d.pt --method shared-modes", "do not share their modes", 1),
        ("s4d.pt --method finite-horizon", "give a horizon", 1),
        ("growing.pt --set length=12 --states 4,1", "a state size of at least 2", 1),
        ("s4d.pt --csv no/table.csv", "the folder no does not exist", 1),
        ("s4d.pt --csv s4d.pt", "it is the model that is read", 1),
        ("s4d.pt --report page.txt", "--report writes .html", 1),
        ("s4d.pt --data xy.npz --plot curve.txt", "--plot writes .png", 1),
        ("s4d.pt --plot curve.png", "--plot has nothing to draw: add --calibrate or --data", 2),
        ("s4d.pt --keep no/folder", "cannot write no/folder: No such file or directory", 1),
        ("s4d.pt --keep x.npz", "cannot write x.npz: File exists", 1),
        ("s4d.pt --engine joblib", "--engine joblib is none; give local, dask, ray", 1),
        ("s4d.pt --workers 0", "Invalid value for '--workers'", 2),
        ("s4d.pt --threads 0", "Invalid value for '--threads'", 2),
        ("s4d.pt --horizon 0", "Invalid value for '--horizon'", 2),
        ("s4d.pt --tolerance 0.1", "No such option", 2),
    ],
)  # fmt: skip
def test_refused(small: Path, arguments: str, says: str, status: int) -> None:
    before = snapshot(small)
    outcome = call(small, "sweep", *arguments.split(), "--json")
    assert outcome.crash is None
    assert (outcome.status, outcome.stdout) == (status, "")
    assert outcome.last_line.startswith("Error: ")
    assert says in outcome.last_line
    assert snapshot(small) == before
