"""Accuracy with dense layers as products of two matrices, without any training.

Of the shipped spoken digits, and of the checkpoints of `reduction_table.py`: multiply-adds per
sample, the output's relative error on calibration data (predicted and measured), and accuracy, for
ranks (16), fractions of the dense layers' multiply-adds (0.4) and both with a state size. What
calibration sees is told in `reduction_table.py`; no labels.

    python benchmarks/ranks.py [--shared FOLDER] [--only NAME]... [--ranks 32,16,0.4,...]
                               [--state N] [--json FILE]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
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
from s4edge.data.dataset import Data
from s4edge.files import replacing
from s4edge.model.costs import multiply_adds
from s4edge.model.history import RankReduction

RANKS = "32,24,16,12,8,0.5,0.4,0.3,0.2"
FLAGSHIP = "flagship"


def flagship(shared: Path) -> tuple[np.ndarray, Data]:
    """Calibration clips and the test clips of the shipped spoken digits."""
    path = ROOT / "examples" / "spoken_digits" / "data.py"
    spec = importlib.util.spec_from_file_location("spoken_digits_data", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    test = module.clips(module.load(shared / "data" / "spoken_digits.npz")["test"])
    return spoken_training(shared, CALIBRATION_SAMPLES), Data(test.x, test.y, None, FLAGSHIP)


def rank_of(text: str) -> ReduceRank:
    """As ``s4edge compress --rank`` takes it."""
    return ReduceRank(rank=int(text)) if text.isdigit() else ReduceRank(fraction=float(text))


def measure(
    path: Path, samples: np.ndarray, test: Data, ranks: list[str], state: int | None
) -> list[dict[str, Any]]:
    """A row for the model as it is, and one for each rank."""
    model = s4edge.load(path)
    rows = [{"rank": "", "multiply_adds": multiply_adds(model), "accuracy": accuracy(model, test)}]
    for rank in ranks:
        steps: list[Step] = [rank_of(rank)]
        steps += [] if state is None else [ReduceStates(state)]
        small = s4edge.compress(model, steps=steps, calibration=samples)
        entry = next(e for e in small.provenance.history if isinstance(e, RankReduction))
        rows.append(
            {
                "rank": rank,
                "ranks": [each.rank for each in entry.layers],
                "multiply_adds": multiply_adds(small),
                "predicted": entry.output_error.predicted,
                "measured": entry.output_error.measured,
                "accuracy": accuracy(small, test),
            }
        )
        print(path.stem, rows[-1], flush=True)
    return rows


def table_of(name: str, rows: list[dict[str, Any]], state: int | None) -> Table:
    """Of one model."""
    beside = "" if state is None else f", state {state}"
    table = Table(title=f"{name}{beside}: ranks without any training")
    for heading in ("rank", "of each layer", "multiply-adds", "error\n(predicted)", "accuracy"):
        table.add_column(heading, justify="right")
    for row in rows:
        reduced = bool(row["rank"])
        table.add_row(
            row["rank"] or "before",
            ", ".join(str(each or "full") for each in row["ranks"]) if reduced else "",
            f"{row['multiply_adds']:,}",
            f"{row['measured']:.2%} ({row['predicted']:.2%})" if reduced else "",
            f"{row['accuracy']:.2%}",
        )
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--only", action="append", help="a model's name; may be repeated")
    parser.add_argument("--ranks", default=RANKS)
    parser.add_argument("--state", type=int, help="reduce states as well")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    path = ROOT / "examples" / "spoken_digits" / "model.safetensors"
    known = {FLAGSHIP: (path, lambda: flagship(arguments.shared)), **tasks(arguments.shared)}
    found = {}
    for name, (model, data) in known.items():
        if not arguments.only or name in arguments.only:
            ranks = arguments.ranks.split(",")
            found[name] = measure(model, *data(), ranks, arguments.state)
            Console(width=100).print(table_of(name, found[name], arguments.state))
    if arguments.json:
        with replacing(arguments.json) as temporary:
            temporary.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
