"""What the demos of the examples share: commands that are run and shown, and their one table."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import rich.box
from rich.console import Console
from rich.table import Table

# Samples per run of the chunk graphs.
CHUNK = 16


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


def measured(shell: Shell, label: str, model: str, data: str) -> dict[str, Any]:
    """A row of the table: a model's accuracy, its graphs, and the step graph's accuracy."""
    stem = Path(model).stem
    graph, in_chunks = f"{stem}.onnx", f"{stem}-chunk{CHUNK}.onnx"
    states = shell.run("inspect", model)["real_states"]
    accuracy = shell.run("eval", model, "--data", data)["value"]
    exported = shell.run("export", model, "--onnx", "-o", graph)
    streamed = shell.run("eval", graph, "--data", data)["value"]
    shell.run("export", model, "--onnx", "--chunk", str(CHUNK), "-o", in_chunks)
    found = {"accuracy": accuracy, "streamed": streamed, "graphs": (graph, in_chunks), **exported}
    return {"label": label, "real_states": states, **found}


def bench(shell: Shell, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """``s4edge bench`` on all graphs of all rows, in turns."""
    graphs = [graph for row in rows for graph in row["graphs"]]
    return shell.run("bench", *graphs, "--duration", "2")


def table(title: str, tested: str, rows: list[dict[str, Any]], found: dict[str, Any]) -> Table:
    """One row per model.

    Args:
        title: of the table.
        tested: what accuracy is on, and what else is to be said of the rows.
        rows: from `measured`.
        found: from `bench` on the same rows.
    """
    device = found["device"]["cpu"]
    timings = found["results"]
    out = Table(
        title=title,
        box=rich.box.SIMPLE_HEAD,
        # The divider of the box is the one space between columns.
        padding=0,
        pad_edge=False,
        caption=f"{tested} Accuracy of the model, and of its step graph. Graph: the step graph's "
        "file. kB per stream: what each running stream keeps. µs per sample: fastest (median), "
        f"streamed one by one and in chunks of {CHUNK}; 1 thread, {device}, {found['runtime']}. "
        "Peak memory of a process that streams: "
        f"{timings[-2]['peak_rss_bytes'] / 1e6:.0f} MB, nearly all Python and onnxruntime.",
        caption_justify="left",
    )
    out.add_column("model", no_wrap=True)
    for heading in ("real\nstates", "accu-\nracy", "its\ngraph", "graph\nkB", "kB per\nstream",
                    "µs, one\nby one", "µs, in\nchunks"):  # fmt: skip
        out.add_column(heading, justify="right", no_wrap=True)
    for row, timing, chunked in zip(rows, timings[::2], timings[1::2], strict=True):
        out.add_row(
            row["label"],
            f"{row['real_states']:,}",
            f"{row['accuracy']:.1%}",
            f"{row['streamed']:.1%}",
            f"{timing['model_bytes'] / 1000:,.0f}",
            f"{timing['state_bytes'] / 1000:,.1f}",
            *(
                f"{each['latency_us']['min'] / each['samples_per_run']:.1f} "
                f"({each['us_per_sample']:.1f})"
                for each in (timing, chunked)
            ),
        )
    return out
