"""Comparing answers: what is matched, what is warned of, and how far intervals hold."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console
from sample_answer import sample_answer
from scipy.stats import mannwhitneyu

from s4edge.bench.compare import compare, compare_files, unpaired_ratio
from s4edge.bench.file import result_of
from s4edge.cli.main import cli
from s4edge.errors import S4EdgeError
from s4edge.reports.bench.compare_table import compare_report


def write(path: Path, answer: dict[str, Any]) -> Path:
    path.write_text(json.dumps(answer))
    return path


def test_models_are_matched_by_file_name() -> None:
    first = sample_answer(("one/a.onnx", "b.onnx"), (100.0, 50.0))
    second = sample_answer(("/home/pi/b.onnx", "c.onnx", "two/a.onnx"), (200.0, 10.0, 80.0))
    found = compare(["x", "y"], [first, second])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [model["model"] for model in found["models"]] == ["a.onnx", "b.onnx", "c.onnx"]
    a, b, c = (model["results"] for model in found["models"])
    assert [row["us_per_sample"] for row in a] == [100.0, 80.0]
    assert [row["us_per_sample"] for row in b] == [50.0, 200.0]
    assert c[0] is None
    assert c[1]["ratio"] is None
    assert a[0]["ratio"] is None
    assert a[1]["ratio"]["value"] == pytest.approx(0.8)
    assert b[1]["ratio"]["value"] == pytest.approx(4.0)
    for rows in (a, b):
        ratio = rows[1]["ratio"]
        assert ratio["low"] <= ratio["value"] <= ratio["high"]
    assert "a.onnx: not in" not in " ".join(found["warnings"])
    assert "c.onnx: not in x" in found["warnings"]
    boards = found["boards"]
    assert [board["label"] for board in boards] == ["x", "y"]
    assert boards[0]["conditions"] == first["conditions"]


def test_names_that_occur_twice_are_told_apart_by_their_paths() -> None:
    first = sample_answer(("v1/m.onnx", "v2/m.onnx"), (100.0, 50.0))
    second = sample_answer(("v2/m.onnx", "v1/m.onnx"), (25.0, 300.0))
    models = compare(["x", "y"], [first, second])["models"]
    assert [model["model"] for model in models] == ["v1/m.onnx", "v2/m.onnx"]
    assert [model["results"][1]["ratio"]["value"] for model in models] == [3.0, 0.5]


def test_nothing_to_warn_of() -> None:
    assert compare(["x", "y"], [sample_answer(), sample_answer()])["warnings"] == []


def changed(**changes: Any) -> dict[str, Any]:
    """A sample answer; ``a__b`` is a key in the object ``a``, ``results__x`` in its last result."""
    answer = copy.deepcopy(sample_answer())
    for name, value in changes.items():
        *inside, key = name.split("__")
        place: Any = answer
        for each in inside:
            place = place[each][-1] if each == "results" else place[each]
        place[key] = value
    return answer


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"threads": 2}, "different numbers of threads: 1 in x, 2 in y"),
        ({"runtime": "onnxruntime 1.19.2"},
         "different runtimes: onnxruntime 1.20.1 in x, onnxruntime 1.19.2 in y"),
        ({"device__python": "3.9.2"}, "different Pythons: 3.11.2 in x, 3.9.2 in y"),
        ({"device__numpy": "2.0.2"}, "different numpys: 1.26.4 in x, 2.0.2 in y"),
        ({"results__samples_per_run": 16},
         "model-s8.onnx: different samples per run: 1 in x, 16 in y"),
        ({"results__model_bytes": 7}, "model-s8.onnx: different sizes of the file, so not the "
         "same graph: 102,400 in x, 7 in y"),
        ({"results__rate_hz": 16000.0},
         "model-s8.onnx: different sample rates: 4,000 in x, 16,000 in y"),
        ({"device__emulated": True}, "emulated: no speed in y; no ratio of times is given"),
        ({"interrupted": True}, "y: interrupted, results until then"),
        ({"conditions__throttled": True}, "y: the machine was throttled while it measured"),
        ({"warnings": ["its own"]}, "y: its own"),
    ],
)  # fmt: skip
def test_warnings(changes: dict[str, Any], warning: str) -> None:
    found = compare(["x", "y"], [changed(), changed(**changes)])
    assert found["warnings"] == [warning]


def test_emulated_times_have_no_ratio() -> None:
    real, other, emulated = changed(), changed(), changed(device__emulated=True)
    rows = compare(["x", "y", "z"], [real, emulated, other])["models"][0]["results"]
    assert rows[1]["ratio"] is None
    assert rows[2]["ratio"] is not None
    rows = compare(["x", "y"], [emulated, real])["models"][0]["results"]
    assert rows[1]["ratio"] is None


def test_interval_is_the_one_of_the_rank_sum_test() -> None:
    rng = np.random.default_rng(3)
    times, first = np.exp(rng.normal(0.3, 0.2, 12)), np.exp(rng.normal(0, 0.2, 15))
    found = unpaired_ratio(list(times), list(first))
    assert found is not None
    low, high = found

    def p_value(ratio: float) -> float:
        return float(mannwhitneyu(times / ratio, first, method="exact").pvalue)

    # What the test does not reject lies inside, to one of 180 ratios of the normal approximation.
    for ratio in np.geomspace(low * 1.0001, high * 0.9999, 50):
        assert p_value(ratio) > 0.04
    assert p_value(low * 0.98) < 0.06
    assert p_value(high * 1.02) < 0.06


def test_interval_holds_the_ratio_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        # Skewed, with some rounds that something disturbed: as benchmarks are.
        times, first = (np.exp(rng.gamma(1.0, 0.1, 20)) for _ in range(2))
        found = unpaired_ratio(list(1.7 * times), list(first))
        assert found is not None
        held += found[0] <= 1.7 <= found[1]
    assert 925 <= held <= 985


@pytest.mark.parametrize(("count", "other"), [(0, 9), (1, 9), (3, 3)])
def test_too_few_rounds_have_no_interval(count: int, other: int) -> None:
    assert unpaired_ratio([1.0] * count, [1.0] * other) is None


def test_long_runs_are_compared_in_little_memory() -> None:
    rng = np.random.default_rng(1)
    found = unpaired_ratio(list(rng.normal(20, 0.1, 100_000)), list(rng.normal(10, 0.1, 50_000)))
    assert found == pytest.approx((2, 2), rel=0.01)


def test_result_of_an_answer_is_what_it_was_written_from() -> None:
    answer = sample_answer(warnings=["one"], unknown_to_this_version=1)
    found = result_of(answer).to_json()
    del answer["unknown_to_this_version"]
    check_same(found, answer)


def check_same(found: Any, wanted: Any, name: str = "") -> None:
    """Hold ``found`` to all that ``wanted`` has, but for the digits that JSON is written with."""
    if isinstance(wanted, dict):
        assert set(wanted) <= set(found), name
        for key, value in wanted.items():
            check_same(found[key], value, f"{name}.{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), name
        for one, other in zip(found, wanted, strict=True):
            check_same(one, other, f"{name}[]")
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, rel=1e-6), name
    else:
        assert found == wanted, name


@pytest.mark.parametrize("count", [2, 5])
def test_table_fits_a_pipe(count: int) -> None:
    answers = [sample_answer(("[b]a-long-name-of-a-model-s16.onnx", "b.onnx"))] * count
    labels = [f"raspberry-pi-{index}.json" for index in range(count)]
    console = Console(width=80, no_color=True)
    with console.capture() as capture:
        for part in compare_report(compare(labels, answers)):
            console.print(part)
    text = capture.get()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "1.000" in text
    squeezed = "".join(text.split())
    for label in labels:
        assert f"{label}:RaspberryPi4" in squeezed


# The command


def call(*arguments: str | Path) -> Any:
    return CliRunner().invoke(cli, ["bench", *map(str, arguments)])


def test_command(tmp_path: Path) -> None:
    a = write(tmp_path / "a.json", sample_answer())
    b = write(tmp_path / "b.json", changed(threads=2))
    outputs = [tmp_path / name for name in ("c.html", "c.md", "c.json")]
    found = call("--compare", a, b, "--html", outputs[0], "--markdown", outputs[1],
                 "-o", outputs[2])  # fmt: skip
    assert found.exit_code == 0
    assert "b.json" in found.stdout
    assert "Warning: different numbers of threads: 1 in a.json, 2 in b.json" in found.stderr
    assert "<!DOCTYPE html>" in outputs[0].read_text()
    told = call("--compare", a, b, "--json")
    assert json.loads(told.stdout) == json.loads(outputs[2].read_text()) == compare_files([a, b])
    printed = call("--compare", a, b, "--markdown", "-")
    assert printed.stdout == outputs[1].read_text()


def test_same_file_twice(tmp_path: Path) -> None:
    a = write(tmp_path / "a.json", sample_answer())
    labels = [board["label"] for board in compare_files([a, a])["boards"]]
    assert labels == ["1: a.json", "2: a.json"]


def test_faults_of_the_command(tmp_path: Path) -> None:
    a = write(tmp_path / "a.json", sample_answer())
    (tmp_path / "empty.json").write_text("")
    for arguments, status, said in (
        (["--compare", a], 1, "Error: --compare needs two files or more"),
        (["--compare"], 1, "Error: --compare needs two files or more"),
        (["--compare", a, tmp_path / "gone.json"], 1, "gone.json does not exist"),
        (["--compare", a, tmp_path / "empty.json"], 1, "it is empty"),
        (["--compare", a, a, "-o", a], 1, "cannot write"),
        (["--compare", a, a, "--html", tmp_path / "no" / "x.html"], 1, "does not exist"),
        (["--compare", a, a, "--html", tmp_path / "x", "--markdown", tmp_path / "x"], 1, "used"),
        (["--compare", a, a, "--rate", "5", "--host", "pi"], 2, "leave out --rate, --host"),
        (["x.onnx", "--ssh-option", "Port=1"], 2, "are for --host"),
        (["x.onnx", "--remote-command", "s4edge"], 2, "are for --host"),
        (["--compare", a, a, "--json", "--markdown", "-"], 2, "both want standard output"),
    ):
        found = call(*arguments)
        assert found.exit_code == status, found.output
        assert said in found.stderr.splitlines()[-1]
        assert found.stdout == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "empty.json"]


def test_two_files_at_least() -> None:
    with pytest.raises(S4EdgeError, match="needs two files or more"):
        compare_files([])
