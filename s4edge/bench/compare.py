"""Answers of benchmarks on several boards, or of several runs on one, side by side."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from statistics import NormalDist
from typing import Any

import numpy as np

from s4edge.bench import words
from s4edge.bench.file import read_bench
from s4edge.bench.intervals import CONFIDENCE
from s4edge.errors import S4EdgeError

_MOST_ROUNDS = 500
_QUANTILE = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


def compare_files(paths: Sequence[Path | str]) -> dict[str, Any]:
    """Read answers of ``s4edge bench`` and compare them: see `compare`.

    Raises:
        S4EdgeError: fewer than two files, or one that `read_bench` refuses.
    """
    if len(paths) < 2:
        raise S4EdgeError("--compare needs two files or more that s4edge bench -o wrote")
    labels = words.names([str(path) for path in paths])
    if len(set(labels)) < len(labels):  # the same file more than once
        labels = [f"{index + 1}: {label}" for index, label in enumerate(labels)]
    return compare(labels, [read_bench(path) for path in paths])


def compare(labels: Sequence[str], answers: Sequence[words.Answer]) -> dict[str, Any]:
    """Set answers side by side.

    Args:
        labels: what each answer is called, all different.
        answers: as `read_bench` gives them; the first is what the others are compared with.

    Returns:
        One JSON object: ``format``; ``boards``, of each answer its ``label``, ``device``,
        ``runtime``, ``threads``, ``started``, ``conditions``, ``warnings``;
        ``warnings`` about comparing them, one line each; and ``models``, of each its ``model``
        and its ``results``: in the order of the boards, a result's numbers with ``ratio`` to the
        first board's time per sample (``value``, ``low``, ``high``, ``confidence``), or null
        where that board did not measure it.

        Models are matched by their file's name; by the path as it was given where a name occurs
        twice in an answer.
    """
    keys = _keys(answers)
    models = list(dict.fromkeys(key for each in keys for key in each))
    rows = [
        {"model": model, "results": _results(model, keys, answers)}
        for model in models
    ]  # fmt: skip
    kept = ("device", "runtime", "threads", "started", "interrupted", "conditions",
            "warnings")  # fmt: skip
    return {
        "format": 1,
        "boards": [
            {"label": label, **{key: answer.get(key) for key in kept}}
            for label, answer in zip(labels, answers)
        ],
        "warnings": list(_warnings(labels, answers, rows)),
        "models": rows,
    }


def unpaired_ratio(times: Sequence[float], first: Sequence[float]) -> tuple[float, float] | None:
    """Give the interval of the ratio of two models' times that were not measured side by side.

    The interval of the shift between two samples that belongs to Wilcoxon's rank sum test, on
    logarithms: it needs no distribution, and a disturbed round does not move it. What changed
    from one run to the other as a whole, it cannot know.

    Args:
        times: time per sample of the one, one number a round.
        first: those of the other.

    Returns:
        Its ends at `CONFIDENCE`; None where there are too few rounds.
    """
    times, first = _some(times), _some(first)
    count, other = len(times), len(first)
    ratios = np.sort(np.divide.outer(np.asarray(times, float), np.asarray(first, float)).ravel())
    spread = math.sqrt(count * other * (count + other + 1) / 12)
    outside = math.floor(count * other / 2 - _QUANTILE * spread)
    if outside < 1:
        return None
    return float(ratios[outside - 1]), float(ratios[-outside])


def _some(rounds: Sequence[float]) -> Sequence[float]:
    """Evenly spread rounds, few enough to pair each with each."""
    return rounds[:: -(-len(rounds) // _MOST_ROUNDS)] if rounds else rounds


def _keys(answers: Sequence[words.Answer]) -> list[list[str]]:
    """What each answer's models are matched by."""
    paths = [[row["model"] for row in answer["results"]] for answer in answers]
    names = [[PurePath(path).name or path for path in each] for each in paths]
    return names if all(len(set(each)) == len(each) for each in names) else paths


def _results(
    model: str, keys: Sequence[Sequence[str]], answers: Sequence[words.Answer]
) -> list[dict[str, Any] | None]:
    found = [
        answer["results"][each.index(model)] if model in each else None
        for each, answer in zip(keys, answers)
    ]
    emulated = [words.is_emulated(answer) for answer in answers]
    return [
        None
        if row is None
        else {
            **{key: row[key] for key in _KEPT},
            # A ratio to an emulator's time would be read as speed.
            "ratio": None
            if index == 0 or found[0] is None or emulated[0] or emulated[index]
            else _ratio(row, found[0]),
        }
        for index, row in enumerate(found)
    ]


_KEPT = (
    *("mode", "samples_per_run", "threads", "us_per_sample", "latency_us"),
    *("rate_hz", "real_time_factor", "energy_uj_per_sample"),
    *("peak_rss_bytes", "model_bytes", "state_bytes"),
)
# What makes a model's rows in two answers worth comparing.
_SAME = (
    ("samples per run", "samples_per_run"),
    ("sizes of the file, so not the same graph", "model_bytes"),
    ("sample rates", "rate_hz"),
)


def _ratio(row: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any] | None:
    if not first["us_per_sample"]:
        return None
    value = row["us_per_sample"] / first["us_per_sample"]
    rounds = ([turn["us_per_sample"] for turn in each["rounds"]] for each in (row, first))
    ends = unpaired_ratio(*rounds)
    # The value is of all runs, the interval of rounds: it shall hold what it is of.
    low, high = (None, None) if ends is None else (min(ends[0], value), max(ends[1], value))
    return {"value": value, "low": low, "high": high, "confidence": CONFIDENCE}


def _warnings(
    labels: Sequence[str], answers: Sequence[words.Answer], rows: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """What a reader of the numbers must know, one line each."""
    emulated = [label for label, answer in zip(labels, answers) if words.is_emulated(answer)]
    if emulated:
        yield f"emulated: no speed in {_listed(emulated)}; no ratio of times is given"
    for what, values in (
        ("numbers of threads", [str(answer["threads"]) for answer in answers]),
        ("runtimes", [answer["runtime"] for answer in answers]),
        ("Pythons", [answer["device"]["python"] for answer in answers]),
        ("numpys", [answer["device"]["numpy"] for answer in answers]),
    ):
        yield from _different(f"different {what}", labels, values)
    for row in rows:
        there = [(label, each) for label, each in zip(labels, row["results"]) if each is not None]
        name = words.clean(row["model"])
        missing = [label for label, each in zip(labels, row["results"]) if each is None]
        if missing:
            yield f"{name}: not in {_listed(missing)}"
        inside = [label for label, _ in there]
        for what, key in _SAME:
            values = [
                words.NOTHING if each[key] is None else f"{each[key]:,.10g}" for _, each in there
            ]
            yield from _different(f"{name}: different {what}", inside, values)
    for label, answer in zip(labels, answers):
        if answer.get("interrupted"):
            yield f"{label}: interrupted, results until then"
        if (answer.get("conditions") or {}).get("throttled"):
            yield f"{label}: the machine was throttled while it measured"
        for text in answer["warnings"]:
            yield f"{label}: {words.clean(text)}"


def _different(what: str, labels: Sequence[str], values: Sequence[str]) -> Iterator[str]:
    if len(set(values)) > 1:
        told = ", ".join(f"{words.clean(v)} in {label}" for label, v in zip(labels, values))
        yield f"{what}: {told}"


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels)
