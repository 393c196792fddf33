"""What C costs against graphs, upstream's code and another generator: one command.

    python benchmarks/c/run.py [--model NAME|FILE]... [--state STATE]... [--upstream FOLDER]

NAME is "spoken digits", "digits" or "4 x 128" (that of docs/graphs.md); STATE is 64 (as the model
is), 8, "8 allocated" or 2; all of them without. A FILE is measured as it is. All of a model's rows
are timed in turns of 8 ms, one thread; a ratio is taken round by round: its median, and in brackets
its 10th and 90th percentile. C is timed in loops within its library, graphs by calls from Python on
bound buffers. "8 allocated" is allocated on noise, or read from ``--allocated FILE``. FOLDER is a
checkout of state-spaces/s4 (``pip install einops``), whose layers want a state of more than 2;
``pip install emx-onnx-cgen`` adds that generator. Prints Markdown, writes nothing.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
import numpy as np
import onnxruntime
import torch
from rich import box
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks" / "graphs"), str(ROOT / "benchmarks" / "c")]

from compiled import FLAGS, Contender, agreement, ours, theirs  # noqa: E402
from models import plain, shipped  # noqa: E402
from others import upstream_step  # noqa: E402
from timing import Timed, bound, in_turns, session  # noqa: E402

import s4edge  # noqa: E402
from s4edge.export.lowering import lower  # noqa: E402
from s4edge.export.onnx.chunk_graph import chunk_graph  # noqa: E402
from s4edge.export.onnx.step_graph import step_graph  # noqa: E402
from s4edge.model.sequence_model import SequenceModel  # noqa: E402
from s4edge.runtime.backends.c.compiler import find_compiler  # noqa: E402

NAMES = ("spoken digits", "digits", "4 x 128")
STATES = ("64", "8", "8 allocated", "2")
CHUNK = 16
# Sequences of noise that "allocated" is calibrated on, and their length.
NOISE = (16, 512)
console = Console(width=150)


def reduced(model: SequenceModel, state: str, allocated: Path | None) -> SequenceModel:
    """A model at one of `STATES`; ``allocated`` is a file that has it already."""
    size = int(state.split()[0])
    if state == "64":
        return model
    if "allocated" not in state:
        return s4edge.compress(model, size)
    if allocated is not None:
        return s4edge.load(allocated)
    noise = np.random.default_rng(0).standard_normal((*NOISE, model.config.d_input), np.float32)
    return s4edge.compress(model, size, calibration=noise, allocate="sensitivity")


def contenders_of(
    model: SequenceModel, state: str, upstream: Path | None, folder: Path
) -> tuple[dict[str, Contender], str]:
    """What is timed, by name, and what is to be said of it."""
    folder.mkdir()
    lowered, mine, emx = lower(model), ours(model, folder), theirs(model, folder)
    found: dict[str, Contender] = {}
    for flags in FLAGS:
        found[f"C step, {flags}"] = mine.step(flags)
        found[f"C chunk, {flags}"] = mine.chunk(flags)
    found["step graph"] = bound(session(step_graph(lowered))), 2
    found[f"chunk graph of {CHUNK}"] = bound(session(chunk_graph(lowered, CHUNK))), 2 * CHUNK
    ram = f"state and scratch of C: {mine.ram:,} bytes"
    if emx is not None:
        for flags in FLAGS:
            found[f"emx-onnx-cgen, {flags}"] = emx.step(flags)
        far = max(agreement(mine.libraries[flags], emx, flags) for flags in FLAGS)
        ram += (
            f"; emx-onnx-cgen's states and stack: {emx.ram:,}, {emx.ram / mine.ram:.1f} times as "
            f"much; outputs differ by {far:.1g} of the largest"
        )
    if upstream is not None and state in ("64", "8"):
        blocks, width = len(model.blocks), model.config.d_model
        found["upstream's step()"] = (upstream_step(upstream, int(state), width, blocks), 1)
    return found, ram


def ratio(one: Timed, other: Timed) -> str:
    """How many times as long, round by round."""
    middle, low, high = one.over(other)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def against_c(title: str, timed: dict[str, Timed]) -> Table:
    """Every row of one state against C with either flags: chunks against chunks."""
    out = Table(title=title, title_justify="left", box=box.MARKDOWN)
    headings = ("", "µs per sample, fastest", "median", *(f"times C {flags}" for flags in FLAGS))
    for heading in headings:
        out.add_column(heading, justify="right" if heading else "left")
    for name, times in timed.items():
        kind = "chunk" if "chunk" in name else "step"
        cells = ["", ""]
        for column, flags in enumerate(FLAGS):
            same_flags = not name.startswith("emx") or name.endswith(flags)
            if not name.startswith("C") and same_flags:
                cells[column] = ratio(times, timed[f"C {kind}, {flags}"])
        out.add_row(name, f"{times.fastest:.2f}", f"{times.median:.2f}", *cells)
    return out


def against_states(title: str, timed: dict[str, dict[str, Timed]], base: str) -> Table:
    """C at each state against C at one of them."""
    out = Table(title=f"{title}: C, times state {base}", title_justify="left", box=box.MARKDOWN)
    out.add_column("")
    rows = [name for name in timed[base] if name.startswith("C ")]
    for name in rows:
        out.add_column(name, justify="right")
    for state, of_state in timed.items():
        if state != base:
            cells = [ratio(of_state[name], timed[base][name]) for name in rows]
            out.add_row(f"state {state}", *cells)
    return out


def measure(
    title: str, models: dict[str, SequenceModel], upstream: Path | None, rounds: int
) -> None:
    """All states of a model in turns, and its tables."""
    contenders: dict[tuple[str, str], Contender] = {}
    notes = {}
    with tempfile.TemporaryDirectory() as scratch:
        for index, (state, model) in enumerate(models.items()):
            found, notes[state] = contenders_of(model, state, upstream, Path(scratch, str(index)))
            contenders |= {(state, name): each for name, each in found.items()}
        flat = in_turns({"\0".join(key): each for key, each in contenders.items()}, rounds)
    timed: dict[str, dict[str, Timed]] = {state: {} for state in models}
    for key, times in flat.items():
        state, name = key.split("\0")
        timed[state][name] = times
    for state, of_state in timed.items():
        states = models[state].config.real_states
        heading = f"{title}, state {state}" if state else title
        console.print(against_c(f"{heading} ({states:,} real states)", of_state))
        console.print(notes[state], end="\n\n")
    base = "8" if "8" in timed else next(iter(timed))
    if len(timed) > 1:
        console.print(against_states(title, timed, base))
        console.print()


@click.command()
@click.option("--model", "wanted", multiple=True, help="May be repeated.")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES))
@click.option("--upstream", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--allocated", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A compressed --model, for its state 8 allocated.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(min=2), default=60, show_default=True)
def main(
    wanted: tuple[str, ...],
    states: tuple[str, ...],
    upstream: Path | None,
    allocated: Path | None,
    rounds: int,
) -> None:
    """Measure and print."""
    if allocated is not None and len(wanted) != 1:
        raise click.UsageError("--allocated FILE is of one model: name it with --model")
    torch.set_num_threads(1)
    console.print(f"onnxruntime {onnxruntime.__version__}, torch {torch.__version__}, "
                  f"{find_compiler().version}, 1 thread, {rounds} rounds")  # fmt: skip
    for name in wanted or NAMES:
        if name in NAMES:
            large = plain(64) if name == "4 x 128" else shipped()[name]
            models = {state: reduced(large, state, allocated) for state in states or STATES}
        else:
            models = {"": s4edge.load(name)}
        # Upstream's layers are built with a state size, which a file need not have.
        measure(name if name in NAMES else Path(name).name, models,
                upstream if name in NAMES else None, rounds)  # fmt: skip


if __name__ == "__main__":
    main()
