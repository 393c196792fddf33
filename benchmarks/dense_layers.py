"""Accuracy with narrower and factored dense layers, without any training.

Of the shipped spoken digits, and of the checkpoints of `reduction_table.py`: multiply-adds per
sample, the output's relative error on calibration data (predicted and measured), and accuracy, for
widths (w48, w0.75), ranks (16), fractions of the dense layers' multiply-adds (0.4), several of
them together (w56+0.4), and all of them with a state size. What calibration sees is told in
`reduction_table.py`; no labels.

    python benchmarks/dense_layers.py [--shared FOLDER] [--only NAME]... [--sizes w48,16,0.4,...]
                                      [--state N] [--samples N] [--json FILE]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reduction_table import CALIBRATION_SAMPLES, ROOT, accuracy, spoken_training, tasks
from rich.console import Console
from rich.table import Table

import s4edge
from s4edge.compression.dense.step import ReduceRank
from s4edge.compression.states.step import ReduceStates
from s4edge.compression.steps import Step
from s4edge.compression.width.step import ReduceWidth
from s4edge.data.dataset import Data
from s4edge.files import replacing
from s4edge.model.costs import multiply_adds
from s4edge.model.history import to_json

SIZES = "24,16,8,0.5,0.4,0.25,w56,w48,w40,w56+0.4"
FLAGSHIP = "flagship"


def flagship(shared: Path) -> tuple[np.ndarray, Data]:
    """Calibration clips and the test clips of the shipped spoken digits."""
    path = ROOT / "examples" / "spoken_digits" / "data.py"
    spec = importlib.util.spec_from_file_location("spoken_digits_data", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    test = module.clips(module.load(shared / "data" / "spoken_digits.npz")["test"])
    return spoken_training(shared, CALIBRATION_SAMPLES), Data(test.x, test.y, None, FLAGSHIP)


def step_of(text: str) -> Step:
    """As ``s4edge compress --rank`` takes it, or behind a w ``--width``."""
    kind = ReduceWidth if text.startswith("w") else ReduceRank
    number = text.removeprefix("w")
    return kind(int(number)) if number.isdigit() else kind(fraction=float(number))


def measure(
    path: Path, samples: np.ndarray, test: Data, sizes: list[str], state: int | None
) -> list[dict[str, Any]]:
    """A row for the model as it is, and one for each size."""
    model = s4edge.load(path)
    rows = [{"size": "", "multiply_adds": multiply_adds(model), "accuracy": accuracy(model, test)}]
    for size in sizes:
        steps = [step_of(each) for each in size.split("+")]
        steps += [] if state is None else [ReduceStates(state)]
        small = s4edge.compress(model, steps=steps, calibration=samples)
        told = [to_json(entry) for entry in small.provenance.history[-len(steps) :]]
        ranks = [layer.get("rank") for layer in told[-1]["layers"] if "dense" in layer]
        rows.append(
            {
                "size": size,
                "ranks": ranks,
                "multiply_adds": multiply_adds(small),
                "errors": [entry["output_error"] for entry in told],
                "accuracy": accuracy(small, test),
            }
        )
        print(path.stem, rows[-1], flush=True)
    return rows


def table_of(name: str, rows: list[dict[str, Any]], state: int | None) -> Table:
    """Of one model."""
    beside = "" if state is None else f", state {state}"
    table = Table(title=f"{name}{beside}: no training")
    for heading in (
        "size",
        "ranks",
        "multiply-adds",
        "error of each step\n(predicted)",
        "accuracy",
    ):
        table.add_column(heading, justify="right")
    for row in rows:
        errors = [f"{e['measured']:.2%} ({e['predicted']:.2%})" for e in row.get("errors", [])]
        table.add_row(
            row["size"] or "before",
            ", ".join(str(each or "full") for each in row.get("ranks", [])),
            f"{row['multiply_adds']:,}",
            ", ".join(errors),
            f"{row['accuracy']:.2%}",
        )
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--only", action="append", help="a model's name; may be repeated")
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--samples", type=int, help="of calibration, at most")
    parser.add_argument("--state", type=int, help="reduce states as well")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    path = ROOT / "examples" / "spoken_digits" / "model.safetensors"
    known = {FLAGSHIP: (path, lambda: flagship(arguments.shared)), **tasks(arguments.shared)}
    found = {}
    for name, (model, data) in known.items():
        if not arguments.only or name in arguments.only:
            samples, test = data()
            few = samples[: arguments.samples]
            found[name] = measure(model, few, test, arguments.sizes.split(","), arguments.state)
            Console(width=100).print(table_of(name, found[name], arguments.state))
    if arguments.json:
        with replacing(arguments.json) as temporary:
            temporary.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
