"""The whole path on the shipped example: compress, eval, export, bench, and one table.

    python demo.py [FOLDER]

Every line it prints with a `$` is a command that can be typed in FOLDER (default: demo-out).
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import rich.box
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
PLAIN_STATES = (16, 8)
CALIBRATED_STATES = (8, 4, 2)
DATA = "digits-test.npz"
# Of the training part, without its labels.
CALIBRATION = ("--calibrate", "digits-train.npz", "--allocate", "sensitivity")


class Shell:
    """Runs s4edge commands in one folder, shows them, and gives their JSON answers."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder, self.console = folder, console

    def run(self, *command: str) -> dict[str, Any]:
        """Run ``s4edge COMMAND --json``; ends the demo if it fails."""
        self.console.print(
            f"$ s4edge {shlex.join(command)}", markup=False, highlight=False, soft_wrap=True
        )
        done = subprocess.run(
            [sys.executable, "-c", "from s4edge.cli.main import main; main()", *command, "--json"],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            sys.exit(done.returncode)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


def measure(shell: Shell, model: str, graph: str) -> dict[str, Any]:
    """Accuracy of a model, its graph, and the graph's accuracy."""
    accuracy = shell.run("eval", model, "--data", DATA)["value"]
    exported = shell.run("export", model, "--onnx", "-o", graph)
    streamed = shell.run("eval", graph, "--data", DATA)["value"]
    return {"accuracy": accuracy, "streamed": streamed, "graph": graph, **exported}


def compressed(shell: Shell, label: str, stem: str, state: str, *how: str) -> dict[str, Any]:
    """A row of the table: reduced to a state size, measured, exported and measured again."""
    model = f"{stem}.safetensors"
    small = shell.run("compress", "model.pt", "--state", state, *how, "-o", model)
    states = small["real_states"]["after"]
    return {"label": label, "real_states": states, **measure(shell, model, f"{stem}.onnx")}


def table(rows: list[dict[str, Any]], bench: dict[str, Any]) -> Table:
    """One row per model."""
    device = bench["device"]["cpu"]
    out = Table(
        title="8x8 digits as sequences of 64 samples: one model, fewer and fewer states",
        box=rich.box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption=f"No training after reduction; where it says calibrated, states are allocated and "
        f"channels refined on {CALIBRATION[1]}, without labels. µs per sample, streamed one by "
        f"one, 1 thread, {device}, {bench['runtime']}; accuracy on 500 held-out digits, of the "
        "model and of its graph.\nkB per stream: what each running stream keeps. Peak memory "
        f"of a process that streams: {bench['results'][-1]['peak_rss_bytes'] / 1e6:.0f} MB, nearly "
        "all Python and onnxruntime.",
        caption_justify="left",
    )
    out.add_column("model", no_wrap=True)
    for heading in ("real\nstates", "accuracy:\nmodel", "\ngraph", "graph\nkB", "kB per\nstream",
                    "fastest\nµs", "median\nµs"):  # fmt: skip
        out.add_column(heading, justify="right", no_wrap=True)
    for row, timing in zip(rows, bench["results"], strict=True):
        out.add_row(
            row["label"],
            f"{row['real_states']:,}",
            f"{row['accuracy']:.1%}",
            f"{row['streamed']:.1%}",
            f"{timing['model_bytes'] / 1000:,.0f}",
            f"{timing['state_bytes'] / 1000:,.1f}",
            f"{timing['latency_us']['min']:.1f}",
            f"{timing['us_per_sample']:.1f}",
        )
    return out


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default="demo-out")
def main(folder: Path) -> None:
    """Run the demo in FOLDER."""
    console = Console()
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, str(HERE / "data.py"), str(folder)], check=True)
    for name in ("model.pt", "model.json"):
        shutil.copyfile(HERE / name, folder / name)
    shell = Shell(folder, console)

    before = shell.run("inspect", "model.pt")
    rows = [{"label": "original, state 64", **measure(shell, "model.pt", "model.onnx")}]
    rows[0]["real_states"] = before["real_states"]
    for state in PLAIN_STATES:
        rows.append(compressed(shell, f"state {state}", f"model-s{state}", str(state)))
    for state in CALIBRATED_STATES:
        label = f"state {state}, calibrated"
        rows.append(compressed(shell, label, f"model-c{state}", str(state), *CALIBRATION))
    bench = shell.run("bench", *(row["graph"] for row in rows), "--duration", "2")
    console.print()
    console.print(table(rows, bench))


if __name__ == "__main__":
    main()
