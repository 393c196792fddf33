"""Accuracy after reduction without any training: state size against method, for every model.

The columns are those of the design: the source paper's balanced truncation of the complex
half-system, the modes of largest H-infinity norm, balanced truncation of the real system, the same
calibrated, allocated over channels as well, and refined as well; behind them the other methods,
uncalibrated. Calibration sees 1,000 samples and no label: MNIST images 0 to 999 of the test file
(the checkpoints are tested on 8,000 to 9,999), spoken digits of the training part, digits of the
example's training part.

    python benchmarks/reduction_table.py [--shared FOLDER] [--only NAME]... [--states N,N,...]
                                         [--column HEADING]... [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.signal
import torch
from rich.console import Console
from rich.table import Table
from trained_checkpoints import load_mnist, load_test

import s4edge
from s4edge.compression.states.calibration import working_copy
from s4edge.compression.states.prepared import ReductionSettings, prepare
from s4edge.compression.states.reducing import to_state
from s4edge.data.dataset import Data
from s4edge.data.metrics import score
from s4edge.files import replacing
from s4edge.model.history import to_json
from s4edge.model.sequence_model import SequenceModel
from s4edge.training.evaluate import predict
from s4edge.workflows.inputs import calibration_of

ROOT = Path(__file__).resolve().parent.parent
SIZES = (32, 16, 8, 6, 4, 2)
CALIBRATION_SAMPLES = 1000
# Heading, method, calibrated, allocated, refined, largest size that is tried.
COLUMNS = [
    ("complex\nBT", "complex-balanced", False, False, False, 64),
    ("largest\nH-inf modes", "modal", False, False, False, 64),
    ("real BT", "balanced", False, False, False, 64),
    ("real BT,\ncalibrated", "balanced", True, False, False, 64),
    ("+ allocated", "balanced", True, True, False, 16),
    ("+ refined", "balanced", True, True, True, 8),
    ("singular\npert.", "singular-perturbation", False, False, False, 16),
    ("H2-\noptimal", "h2", False, False, False, 16),
    ("Hankel\nnorm", "hankel", False, False, False, 16),
    ("finite\nhorizon", "finite-horizon", False, False, False, 16),
]

Columns = list[tuple[str, str, bool, bool, bool, int]]


def spoken_training(shared: Path, samples: int) -> np.ndarray:
    """Training clips as the checkpoint's test set was made (see the data's README)."""
    with np.load(shared / "data" / "spoken_digits.npz") as content:
        audio, offsets, index = content["audio"], content["offsets"], content["index"]
    rows = np.random.default_rng(0).permutation(np.flatnonzero(index > 4))[:samples]
    x = np.zeros((samples, 2048, 1), np.float32)
    for out, row in zip(x, rows, strict=True):
        clip = scipy.signal.decimate(audio[offsets[row] : offsets[row + 1]] / 32768, 2)
        clip = (clip / np.abs(clip).max())[:2048]
        out[: len(clip), 0] = clip
    return x


def tasks(shared: Path) -> dict[str, tuple[Path, Any]]:
    """Checkpoints by name, and what gives (calibration samples, test data)."""
    found: dict[str, tuple[Path, Any]] = {"digits": (ROOT / "examples/digits/model.pt", digits)}
    for path in sorted((shared / "checkpoints" / "trained").glob("*.pt")):
        found[path.stem] = (path, lambda path=path: (calibration(shared, path.stem),
                                                     load_test(shared, path.stem)))  # fmt: skip
    return found


def digits() -> tuple[np.ndarray, Data]:
    """Of the shipped example."""
    sys.path.insert(0, str(ROOT / "examples" / "digits"))
    from data import load_digits_sequences

    x_train, _, x, y = load_digits_sequences()
    return x_train[:CALIBRATION_SAMPLES], Data(x, y, None, "digits")


def calibration(shared: Path, name: str) -> np.ndarray:
    """Samples that the checkpoint's test set does not hold."""
    if name.startswith("mnist"):
        return load_mnist(shared)[0][:CALIBRATION_SAMPLES]
    return spoken_training(shared, CALIBRATION_SAMPLES)


def accuracy(model: SequenceModel, data: Data) -> float:
    """On labelled data, by convolution in single precision."""
    return score(predict(working_copy(model), data), data).value


def measure(
    name: str, path: Path, samples: np.ndarray, test: Data, sizes: tuple[int, ...], columns: Columns
) -> dict[str, Any]:
    """All cells of one model."""
    model = s4edge.load(path)
    calibration = calibration_of(model, samples)
    row: dict[str, Any] = {"model": name, "accuracy": accuracy(model, test), "cells": []}
    for heading, method, calibrated, allocated, refined, largest in columns:
        started = time.perf_counter()
        data = calibration if calibrated else None
        horizon = samples.shape[1]
        settings = ReductionSettings(method, allocated, refined, horizon)
        ready = prepare(model, settings, data)
        prepared = time.perf_counter() - started
        for size in (size for size in sizes if size <= largest):
            started = time.perf_counter()
            small = to_state(ready, size)
            seconds = time.perf_counter() - started
            cell = {
                "column": heading.replace("\n", " "), "state": size, "prepared": prepared,
                "seconds": seconds, "accuracy": accuracy(small, test),
                "real_states": small.config.real_states,
                "output_error": to_json(small.provenance.history[-1]).get("output_error"),
            }  # fmt: skip
            row["cells"].append(cell)
            print(name, cell["column"], size, f"{cell['accuracy']:.4f} {seconds:.0f} s", flush=True)
    return row


def accuracy_table(row: dict[str, Any]) -> Table:
    """Of one model."""
    cells = {(cell["column"], cell["state"]): cell["accuracy"] for cell in row["cells"]}
    table = Table(title=f"{row['model']}: {row['accuracy']:.2%} before; accuracy in %, no training")
    table.add_column("state", justify="right")
    for heading, *_ in COLUMNS:
        table.add_column(heading, justify="right")
    for size in SIZES:
        found = [cells.get((heading.replace("\n", " "), size)) for heading, *_ in COLUMNS]
        table.add_row(str(size), *("" if v is None else f"{100 * v:.1f}" for v in found))
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--only", action="append", help="a model's name; may be repeated")
    parser.add_argument(
        "--states", type=lambda text: tuple(map(int, text.split(","))), default=SIZES
    )
    parser.add_argument("--column", action="append", help="a column's heading; may be repeated")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    asked = arguments.column
    columns = [each for each in COLUMNS if asked is None or each[0].replace("\n", " ") in asked]
    rows = []
    console = Console(width=130)
    for name, (path, data) in tasks(arguments.shared).items():
        if arguments.only and name not in arguments.only:
            continue
        started = time.perf_counter()
        rows.append(measure(name, path, *data(), arguments.states, columns))
        console.print(f"{name}: {time.perf_counter() - started:.0f} s")
        if arguments.json:
            with replacing(arguments.json) as temporary:
                temporary.write_text(json.dumps(rows, indent=1))
    for row in rows:
        console.print(accuracy_table(row))


if __name__ == "__main__":
    main()
