"""Accuracy of the trained upstream checkpoints: as read, as streamed graphs, and reduced.

For every checkpoint in a folder (default ../shared/checkpoints/trained) that s4edge reads: its
accuracy beside the recorded one, the largest difference of its outputs to the recorded logits, the
same for the graph exported with nothing removed and streamed sample by sample, and the accuracy at
smaller state sizes without any training, by balanced truncation of the real system and of the
complex half-system.

    python benchmarks/trained_checkpoints.py [--shared FOLDER] [--json FILE]
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import s4edge
from s4edge.data.dataset import Data
from s4edge.data.metrics import score
from s4edge.model.sequence_model import SequenceModel
from s4edge.runtime import open_graph, predict
from s4edge.training.evaluate import predict as predict_model

STATES = (32, 16, 8)
METHODS = ("balanced", "complex-balanced")


def load_mnist(shared: Path) -> tuple[np.ndarray, np.ndarray]:
    """The 10,000 images of the test file, pixel by pixel, and their labels."""
    arrays = []
    for name, header in (("t10k-images-idx3-ubyte.gz", 16), ("t10k-labels-idx1-ubyte.gz", 8)):
        content = gzip.decompress((shared / "data" / "mnist" / name).read_bytes())
        arrays.append(np.frombuffer(content, np.uint8, offset=header))
    return arrays[0].reshape(-1, 784, 1).astype(np.float32) / 255, arrays[1].astype(np.int64)


def load_test(shared: Path, name: str) -> Data:
    """The test set that a checkpoint's accuracy was recorded on."""
    if name.startswith("mnist"):
        # Images 8,000 to 9,999 were not trained on.
        x, y = (part[8000:] for part in load_mnist(shared))
    else:
        with np.load(shared / "checkpoints" / "trained" / "spoken_digits_4k_test.npz") as content:
            x, y = content["x"], content["y"]
    return Data(x, y, None, name)


def streamed_logits(model: SequenceModel, x: np.ndarray, folder: Path) -> np.ndarray:
    """Outputs of the step graph after the last sample."""
    path = folder / "model.onnx"
    s4edge.export_onnx(model, path)
    return predict(open_graph(path), x)


def measure(shared: Path, path: Path, folder: Path) -> dict[str, Any]:
    """All figures of one checkpoint."""
    record = json.loads(path.with_suffix(".json").read_text())
    model = s4edge.load(path)
    data = load_test(shared, path.stem)
    with np.load(path.with_suffix(".npz")) as content:
        recorded = {name: content[name] for name in content}
    logits = predict_model(model, data)
    full = s4edge.compress(model, int(model.blocks[0].systems.config.state_size))
    streamed = streamed_logits(full, recorded["x"], folder)
    row: dict[str, Any] = {
        "checkpoint": path.stem,
        "format": model.provenance.format,
        "recorded_accuracy": record["test_accuracy"],
        "accuracy": score(logits, data).value,
        "largest_logit": float(np.abs(recorded["test_logits"]).max()),
        "difference": float(np.abs(logits - recorded["test_logits"]).max()),
        "streamed_difference": float(np.abs(streamed - recorded["logits"]).max()),
        "streamed_largest_logit": float(np.abs(recorded["logits"]).max()),
        "reduced": [],
    }
    for state in STATES:
        for method in METHODS:
            started = time.perf_counter()
            small = s4edge.compress(model, state, method=method)
            seconds = time.perf_counter() - started
            value = score(predict_model(small, data), data).value
            row["reduced"].append(
                {"state": state, "method": method, "accuracy": value, "seconds": seconds}
            )
    return row


def fidelity_table(rows: list[dict[str, Any]]) -> Table:
    """How exactly the checkpoints are read and streamed."""
    table = Table(title="Nothing removed: against what upstream recorded")
    for heading in ("checkpoint", "accuracy\nrecorded", "ours", "largest\nlogit",
                    "largest\ndifference", "relative", "graph streamed:\ndifference",
                    "relative"):  # fmt: skip
        table.add_column(heading, justify="left" if heading == "checkpoint" else "right")
    for row in rows:
        table.add_row(
            row["checkpoint"],
            f"{row['recorded_accuracy']:.2%}",
            f"{row['accuracy']:.2%}",
            f"{row['largest_logit']:.2f}",
            f"{row['difference']:.1e}",
            f"{row['difference'] / row['largest_logit']:.1e}",
            f"{row['streamed_difference']:.1e}",
            f"{row['streamed_difference'] / row['streamed_largest_logit']:.1e}",
        )
    return table


def reduction_table(rows: list[dict[str, Any]]) -> Table:
    """Accuracy after reduction without training."""
    table = Table(title="Reduced, no training: accuracy in % (balanced / complex half-system)")
    table.add_column("checkpoint")
    for heading in ("64", *map(str, STATES)):
        table.add_column(f"state {heading}", justify="right")
    for row in rows:
        cells = [f"{100 * row['accuracy']:.1f}"]
        for state in STATES:
            by_method = {r["method"]: r["accuracy"] for r in row["reduced"] if r["state"] == state}
            cells.append(" / ".join(f"{100 * by_method[method]:.1f}" for method in METHODS))
        table.add_row(row["checkpoint"], *cells)
    return table


def main() -> None:
    """Measure every checkpoint and print both tables."""
    default = Path(__file__).resolve().parent.parent.parent / "shared"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=default)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    rows = []
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted((arguments.shared / "checkpoints" / "trained").glob("*.pt")):
            started = time.perf_counter()
            rows.append(measure(arguments.shared, path, Path(folder)))
            seconds = time.perf_counter() - started
            console.print(f"{path.name}: {rows[-1]['format']}, {seconds:.0f} s")
    console.print(fidelity_table(rows))
    console.print(reduction_table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
