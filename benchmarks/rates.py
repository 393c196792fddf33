"""Strides on the spoken digits: accuracy without training and after distillation, work, C's time.

    python benchmarks/rates.py SOURCE.npz [--strides 2,2,2,1]... [--state N] [--epochs K] [--seed S]
        [--sequences N] [--json FILE]

SOURCE is the data set (see examples/spoken_digits/data.py). Every model is the flagship of that
example with the strides, then with ``--state``; ``--sequences`` training clips are the calibration
data. Distillation is towards the flagship's outputs, without labels, the epoch chosen on the
validation clips. Steps of all models' C take turns over one clip of 2,048 samples, one thread; of
each sample's step the quickest turn counts.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

import s4edge
from s4edge.cli.rates import rate_step
from s4edge.compression.states.step import ReduceStates
from s4edge.compression.steps import Step, apply_steps
from s4edge.data.dataset import Data
from s4edge.model.costs import multiply_adds
from s4edge.model.history import RateReduction
from s4edge.model.sequence_model import SequenceModel
from s4edge.runtime.backends.c.library import CLibrary, open_library
from s4edge.training.finetune import finetune_model
from s4edge.training.settings import settings_of
from s4edge.workflows.inputs import calibration_of

EXAMPLE = Path(__file__).parents[1] / "examples" / "spoken_digits"
sys.path.insert(0, str(EXAMPLE))

import data as digits  # noqa: E402

STRIDES = ("1,2,1,1", "2,2,2,1", "2,4,4,1")
ROUNDS, RATE = 30, 0.002


def parts_of(source: Path) -> dict[str, Data]:
    """Training, validation and test clips."""
    return {
        name: Data(part.x, part.y, None, f"{name} clips")
        for name, part in ((name, digits.clips(raw)) for name, raw in digits.load(source).items())
    }


def compiled(model: SequenceModel, folder: Path, name: str) -> CLibrary:
    """Its C, for this machine."""
    exported = s4edge.export_c(model, folder / f"{name}.c", compiled=True)
    assert exported.library is not None
    return open_library(exported.library)


def step_times(libraries: list[CLibrary], x: np.ndarray[Any, Any]) -> list[dict[str, float]]:
    """Microseconds of a step: mean over a clip, and its slowest hundredth.

    Of each sample's step the quickest of all turns: others' work is in none of them.
    """
    turns: list[list[np.ndarray[Any, Any]]] = [[] for _ in libraries]
    for _ in range(ROUNDS):
        for library, found in zip(libraries, turns, strict=True):
            found.append(library.time(library.start(), x))
    fastest = [np.min(found, axis=0) * 1e6 for found in turns]
    return [{"mean": float(each.mean()), "p99": float(np.quantile(each, 0.99))} for each in fastest]


@click.command()
@click.argument("source", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--strides", multiple=True, default=STRIDES, show_default=True)
@click.option("--state", type=int, help="Reduce states afterwards, allocated and refined.")
@click.option("--epochs", default=3, show_default=True, help="Of distillation; 0 for none.")
@click.option("--seed", default=0, show_default=True)
@click.option("--sequences", default=100, show_default=True, help="To calibrate on.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write all of it here, too.")
def main(
    source: Path, strides: tuple[str, ...], state: int | None, epochs: int, seed: int,
    sequences: int, out: Path | None,
) -> None:  # fmt: skip
    """Measure, and print a table."""
    console, parts = Console(), parts_of(source)
    original = s4edge.load(EXAMPLE / "model.safetensors")
    train = parts["train"]
    rows = np.linspace(0, len(train.x) - 1, sequences).round().astype(int)
    calibration = calibration_of(original, Data(train.x[rows], None, None, "training clips"))
    settings = settings_of(
        epochs=max(epochs, 1), has_teacher=True, rate=RATE, pole_rate=RATE, seed=seed
    )

    def accuracy(model: SequenceModel) -> float:
        return s4edge.evaluate(model, parts["test"]).value

    found: list[dict[str, Any]] = [
        {"strides": "1,1,1,1", "multiply_adds": multiply_adds(original),
         "accuracy": accuracy(original)},
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        libraries = [compiled(original, Path(folder), "m0")]
        for index, each in enumerate(strides, 1):
            step = rate_step(each, None, None)
            assert step is not None
            steps: list[Step] = [step]
            if state is not None:
                steps.append(ReduceStates(state, allocate="sensitivity"))
            began = time.perf_counter()
            small = apply_steps(original, steps, calibration).model
            told = next(e for e in small.provenance.history if isinstance(e, RateReduction))
            assert told.output_error is not None
            row = {
                "strides": each, "multiply_adds": multiply_adds(small),
                "predicted_error": told.output_error.predicted,
                "error": told.output_error.measured, "accuracy": accuracy(small),
                "seconds": time.perf_counter() - began,
            }  # fmt: skip
            libraries.append(compiled(small, Path(folder), f"m{index}"))
            if epochs:
                began = time.perf_counter()
                unlabelled = Data(train.x, None, None, train.source)
                aim = Data(parts["validation"].x, None, None, "validation clips")
                trained = finetune_model(
                    small, unlabelled, settings, validation=aim, teacher=original
                )
                row |= {"distilled": accuracy(trained)}
                row |= {"training_seconds": time.perf_counter() - began}
            console.print(row)
            found.append(row)
        for row, took in zip(found, step_times(libraries, parts["test"].x[0]), strict=True):
            row["step_us"] = took
    console.print(_table(found, state, epochs))
    if out is not None:
        out.write_text(json.dumps(found, indent=1))


def _table(rows: list[dict[str, Any]], state: int | None, epochs: int) -> Table:
    table = Table(title="Spoken digits" + (f", state {state}" if state else ""))
    for heading in (
        "strides", "multiply-adds\nper sample", "output error\n(predicted)", "accuracy",
        f"after {epochs} epochs\nof distillation", "C, µs per step\nmean (p99)",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    for row in rows:
        error = f"{row['error']:.1%} ({row['predicted_error']:.1%})" if "error" in row else ""
        distilled = f"{row['distilled']:.1%}" if "distilled" in row else ""
        took = row["step_us"]
        table.add_row(
            row["strides"], f"{row['multiply_adds']:,}", error, f"{row['accuracy']:.1%}",
            distilled, f"{took['mean']:.2f} ({took['p99']:.2f})",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    main()
