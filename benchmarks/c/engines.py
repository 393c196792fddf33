"""What other engines take for the same model: one command.

    python benchmarks/c/engines.py [--model NAME|FILE] [--state N]... [--engine NAME[=PYTHON]]...

The step graph and the chunk graph of 16 of `s4edge export --onnx --batch 1`, as onnxruntime,
OpenVINO, IREE, ncnn (by pnnx), LiteRT (by onnx2tf) and emx-onnx-cgen run them, and s4edge's C. Each
engine runs in a process of its own, with the Python named behind it, so that it may be installed
in an environment of its own; one that is not installed is left out, with a line that says so. First
each answers the same samples, one after another from zero state, which is compared with the model
in double precision. Then all take turns of 8 ms, one thread each; a ratio is taken round by round:
its median, and in brackets its 10th and 90th percentile. A step is timed as a program calls it:
emx-onnx-cgen's and s4edge's C in a loop in C, the others by calls from Python on buffers that stay.
Prints Markdown, writes nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import torch
from rich import box
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks" / "graphs"), str(ROOT / "benchmarks" / "c")]

from compiled import FLAGS, ours, theirs  # noqa: E402
from engine_worker import ENGINES  # noqa: E402
from models import plain, shipped  # noqa: E402
from timing import TURN, Timed, median_of_turn  # noqa: E402

import s4edge  # noqa: E402
from s4edge.export.lowering import lower  # noqa: E402
from s4edge.export.lowering.reference import run as reference  # noqa: E402
from s4edge.model.sequence_model import SequenceModel  # noqa: E402

CHUNK, SAMPLES = 16, 512
# Samples of a call of C, a fifth of a millisecond or so: where the machine is busy, longer ones are
# interrupted at every turn.
AT_ONCE, THEIR_AT_ONCE = 64, 8
console = Console(width=180)


@dataclass(frozen=True)
class Row:
    """One way to run a model.

    Attributes:
        mode: "step" or "chunk".
        time: a turn: the median nanoseconds of a run.
        difference: to the model in double precision, relative to the largest output; None where
            outputs were not compared here.
    """

    mode: str
    time: Callable[[], float]
    difference: float | None


class Engine:
    """The process of an engine that has a graph. ``told`` is what it said of itself."""

    def __init__(self, name: str, python: str, graph: Path) -> None:
        worker = Path(__file__).with_name("engine_worker.py")
        self.process = subprocess.Popen(
            [python, str(worker), name, str(graph)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.told: dict[str, Any] = {}
        # Engines say this and that on standard output, too.
        while not self.told:
            line = self._read()
            if line.startswith('{"version"'):
                self.told = json.loads(line)

    def time(self) -> float:
        """The median nanoseconds of a run in a turn."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{TURN}\n")
        self.process.stdin.flush()
        return float(self._read())

    def close(self) -> None:
        """End the process."""
        self.process.communicate()

    def _read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"it ended with status {self.process.wait()}")
        return line


def written(model: SequenceModel, folder: Path) -> np.ndarray:
    """Graphs, their shapes and samples; what the model gives for these, (samples, d_output)."""
    for mode, chunk in (("step", None), ("chunk", CHUNK)):
        path = folder / f"{mode}.onnx"
        s4edge.export_onnx(model, path, mode, chunk=chunk, batch=1)
        graph = onnx.load(path).graph
        shapes = {
            port.name: [size.dim_value for size in port.type.tensor_type.shape.dim]
            for port in (*graph.input, *graph.output)
        }
        path.with_suffix(".json").write_text(json.dumps(shapes))
    x = np.random.default_rng(0).standard_normal((SAMPLES, model.config.d_input), np.float32)
    np.save(folder / "x.npy", x)
    return reference(lower(model), x.astype(np.float64))[0]


def off(got: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference, relative to the largest output."""
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def in_c(model: SequenceModel, folder: Path, wanted: np.ndarray) -> dict[str, Row]:
    """s4edge's and emx-onnx-cgen's C."""
    mine, emx = ours(model, folder), theirs(model, folder)
    x = np.load(folder / "x.npy")
    rows = {}
    for flags in FLAGS:
        library = mine.libraries[flags]
        difference = off(library.run(library.start(), x), wanted)
        both = (("step", mine.step(flags, AT_ONCE)), ("chunk", mine.chunk(flags, AT_ONCE)))
        for mode, (call, samples) in both:
            per_run = samples if mode == "step" else samples // CHUNK
            rows[f"s4edge's C, {mode}, {flags}"] = Row(
                mode, lambda call=call, runs=per_run: median_of_turn(call) / runs, difference
            )
        if emx is not None:
            run, runs = emx.step(flags, THEIR_AT_ONCE)
            rows[f"emx-onnx-cgen, step, {flags}"] = Row(
                "step", lambda call=run, runs=runs: median_of_turn(call) / runs,
                emx.difference(flags, wanted, x),
            )  # fmt: skip
    if emx is None:
        console.print("emx-onnx-cgen is not installed: pip install emx-onnx-cgen")
    return rows


def of_engines(
    pythons: dict[str, str], folder: Path, wanted: np.ndarray
) -> tuple[dict[str, Row], list[Engine]]:
    """Of all that are installed; what is to be said of each is printed."""
    rows: dict[str, Row] = {}
    engines: list[Engine] = []
    for name, python in pythons.items():
        for mode, label in (("step", "step"), ("chunk", f"chunk of {CHUNK}")):
            try:
                engine = Engine(name, python, folder / f"{mode}.onnx")
            except (RuntimeError, OSError) as error:
                console.print(f"- {name}, {label}: stopped: {error}", soft_wrap=True)
                continue
            engines.append(engine)
            told = engine.told
            if "missing" in told:
                packages = " ".join(ENGINES[name][1])
                console.print(f"- {name} is not installed: pip install {packages}", soft_wrap=True)
                break
            if mode == "step":
                sizes = " + ".join(f"{each} {mb:.0f}" for each, mb in told["megabytes"].items())
                console.print(f"- {name} {told['version']}, MB on the disk: {sizes}")
            if "stopped" in told:
                console.print(f"- {name}, {label}: stopped: {told['stopped']}", soft_wrap=True)
                continue
            outputs = np.load(folder / f"{name}-{mode}.npy")
            rows[f"{name}, {label}"] = Row(mode, engine.time, off(outputs, wanted))
    return rows, engines


def timed(rows: dict[str, Row], rounds: int) -> dict[str, Timed]:
    """In turns, µs per sample."""
    found: dict[str, list[float]] = {name: [] for name in rows}
    for row in rows.values():
        row.time()  # warms it up
    for _ in range(rounds):
        for name, row in rows.items():
            samples = 1 if row.mode == "step" else CHUNK
            found[name].append(row.time() / 1e3 / samples)
    return {name: Timed(np.array(turns)) for name, turns in found.items()}


def table(title: str, rows: dict[str, Row], times: dict[str, Timed]) -> Table:
    """Steps against C's steps, chunks against C's chunks."""
    out = Table(title=title, title_justify="left", box=box.MARKDOWN)
    headings = ("", "µs per sample, fastest", "median", *(f"times C {flags}" for flags in FLAGS))
    for heading in (*headings, "difference"):
        out.add_column(heading, justify="right" if heading else "left")
    for name, row in sorted(rows.items(), key=lambda each: (each[1].mode != "step",)):
        cells = []
        for flags in FLAGS:
            middle, low, high = times[name].over(times[f"s4edge's C, {row.mode}, {flags}"])
            cells.append("" if "C, " in name else f"{middle:.2f} ({low:.2f} to {high:.2f})")
        difference = "" if row.difference is None else f"{row.difference:.0e}"
        measured = times[name]
        out.add_row(name, f"{measured.fastest:.2f}", f"{measured.median:.2f}", *cells, difference)
    return out


@click.command()
@click.option("--model", "name", default="spoken digits", show_default=True)
@click.option("--state", "states", type=int, multiple=True, help="Reduced to. May be repeated.")
@click.option("--engine", "wanted", multiple=True, metavar="NAME[=PYTHON]", help="May be repeated.")
@click.option("--rounds", type=click.IntRange(min=2), default=60, show_default=True)
def main(name: str, states: tuple[int, ...], wanted: tuple[str, ...], rounds: int) -> None:
    """Measure and print."""
    pythons = dict.fromkeys(ENGINES, sys.executable) if not wanted else {}
    for each in wanted:
        engine, _, python = each.partition("=")
        if engine not in ENGINES:
            raise click.UsageError(f"engine {engine!r} is unknown; known: {', '.join(ENGINES)}")
        pythons[engine] = python or sys.executable
    torch.set_num_threads(1)
    if name == "4 x 128":
        large = plain(64)
    else:
        large = shipped()[name] if name in shipped() else s4edge.load(name)
    for state in states or (None,):
        model = large if state is None else s4edge.compress(large, state)
        title = f"{name}, state {state}" if state else name
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            model_y = written(model, folder)
            rows, engines = of_engines(pythons, folder, model_y)
            rows |= in_c(model, folder, model_y)
            times = timed(rows, rounds)
            for each in engines:
                each.close()
        console.print()
        console.print(table(f"{title} ({model.config.real_states:,} real states)", rows, times))
        console.print()


if __name__ == "__main__":
    main()
