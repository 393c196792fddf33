"""Training steps per second and peak memory, against upstream's own layer.

The model is that of upstream's ``example.py``: encoder, 4 blocks (layer, residual,
LayerNorm), mean over time, decoder; 64 channels, state size 64, batches of 16, AdamW, no dropout.
Steps of both alternate in one process, with what no step can do
without; peak memory is that of a process of its own, over that of
one that only imports. Upstream's code is not part of this repository: name a checkout of
state-spaces/s4 (its layer needs ``pip install einops``).

    python benchmarks/training_speed.py --upstream FOLDER [--length 2048,16384] [--rounds 9]
        [--layer s4d|s4block] [--threads 2] [--states 64,16,8]
"""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from upstream_layers import upstream_module

from s4edge.bench.machine.memory import peak_rss_bytes
from s4edge.training.allocator import keep_freed_memory
from s4edge.training.batches import Batch
from s4edge.training.initial import initial_model
from s4edge.training.objective import Objective
from s4edge.training.optimizer import make_optimizer
from s4edge.training.settings import TrainingSettings
from s4edge.training.threads import each_in_order
from s4edge.training.trainable import Trainable

D_MODEL, LAYERS, STATE, BATCH = 64, 4, 64, 16

Step = Callable[[], None]


class Upstream(nn.Module):
    """The backbone of ``example.py`` around upstream's layer, post-norm."""

    def __init__(self, folder: Path, layer: str, state: int) -> None:
        super().__init__()
        make = (
            upstream_module(folder, "s4d").S4D
            if layer == "s4d"
            else upstream_module(folder, "s4").S4Block
        )
        self.encoder = nn.Linear(1, D_MODEL)
        self.layers = nn.ModuleList(
            make(D_MODEL, d_state=state, dropout=0.0, transposed=True) for _ in range(LAYERS)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(D_MODEL) for _ in range(LAYERS))
        self.decoder = nn.Linear(D_MODEL, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, length, 1) to (batch, 10)."""
        x = self.encoder(x).transpose(1, 2)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            z, _ = layer(x)
            x = norm((x + z).transpose(1, 2)).transpose(1, 2)
        out: Tensor = self.decoder(x.mean(dim=2))
        return out


def batch(length: int) -> tuple[Tensor, Tensor]:
    """Noise and labels."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(BATCH, length, 1)).astype(np.float32))
    return x, torch.from_numpy(rng.integers(10, size=BATCH))


def upstream_step(folder: Path, layer: str, length: int) -> Step:
    """One training step of upstream's model."""
    model = Upstream(folder, layer, STATE)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    x, y = batch(length)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def our_step(length: int, state: int) -> Step:
    """One training step as `s4edge.training.finetune` takes it."""
    start = initial_model(1, 10, d_model=D_MODEL, layers=LAYERS, state=state, seed=0)
    model = Trainable(start, length)
    settings = TrainingSettings(epochs=1)
    optimizer = make_optimizer(model, settings)
    x, y = batch(length)
    whole = Batch(x, y, None, None, slice(0, BATCH), BATCH, BATCH * length)
    objective = Objective("classification", settings)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(whole, objective.loss).backward()
        optimizer.step()

    return step


def least_step(length: int) -> Step:
    """What no step can do without.

    Each layer's products with its mixing matrix, forward and for both gradients, and the transforms
    of its convolution, two forward and two backward.
    """
    rows = max(1, (1 << 17) // (D_MODEL * length))  # that the processor's own memory holds
    mixing, u = torch.randn(2 * D_MODEL, D_MODEL), torch.randn(BATCH, D_MODEL, length)
    y, padded = torch.randn(BATCH, 2 * D_MODEL, length), torch.zeros(BATCH, D_MODEL, 2 * length)
    padded[..., :length] = u

    def of_part(at: int) -> None:
        some = slice(at, at + rows)
        for _ in range(2):
            torch.fft.irfft(torch.fft.rfft(padded[some]), n=2 * length)
        mixing @ u[some], mixing.mT @ y[some], y[some] @ u[some].mT

    def step() -> None:
        with torch.no_grad():
            for _ in range(LAYERS):
                list(each_in_order(of_part, range(0, BATCH, rows), torch.get_num_threads()))

    return step


def timed(step: Step) -> tuple[float, float]:
    """Seconds, and seconds of all cores that the process had."""
    started, used = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - started, time.process_time() - used


def peak_of(options: list[str]) -> float:
    """MB of a process that takes two steps, over one that takes none."""

    def measure(*extra: str) -> int:
        done = subprocess.run(
            [sys.executable, __file__, *options, *extra],
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        return int(json.loads(done.stdout.splitlines()[-1]))

    return (measure("--steps", "2") - measure("--steps", "0")) / 1e6


@click.command()
@click.option("--upstream", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--length", "lengths", default="2048,16384", show_default=True)
@click.option("--states", default="64,16,8", show_default=True, help="Of ours.")
@click.option("--layer", type=click.Choice(["s4d", "s4block"]), default="s4d", show_default=True)
@click.option("--rounds", type=int, default=9, show_default=True)
@click.option("--threads", type=int, default=2, show_default=True)
@click.option("--steps", type=int, hidden=True, help="Take so many and print the peak memory.")
@click.option("--which", hidden=True, default="ours")
def main(
    upstream: Path, lengths: str, states: str, layer: str, rounds: int, threads: int,
    steps: int | None, which: str,
) -> None:  # fmt: skip
    """Measure and print."""
    torch.set_num_threads(threads)
    sizes = [int(each) for each in states.split(",")]
    if steps is not None:
        length = int(lengths)
        if which == "ours":
            keep_freed_memory()
        if steps:
            step = (
                our_step(length, sizes[0])
                if which == "ours"
                else upstream_step(upstream, layer, length)
            )
            for _ in range(steps):
                step()
        print(peak_rss_bytes())
        return
    console = Console(width=110)
    for length in (int(each) for each in lengths.split(",")):
        contenders = {f"upstream {layer}, state {STATE}": upstream_step(upstream, layer, length)}
        contenders |= {f"s4edge, state {size}": our_step(length, size) for size in sizes}
        contenders["products and transforms alone"] = least_step(length)
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
        for turn in range(rounds + 1):
            for name, step in contenders.items():
                both = timed(step)
                if turn:  # the first round warms up
                    taken[name].append(both)
        console.print(table(length, layer, threads, taken, memory(upstream, layer, length, sizes)))


def memory(upstream: Path, layer: str, length: int, sizes: list[int]) -> list[float]:
    """MB of each contender."""
    same = ["--upstream", str(upstream), "--length", str(length), "--layer", layer]
    out = [peak_of([*same, "--which", "upstream"])]
    return out + [peak_of([*same, "--which", "ours", "--states", str(size)]) for size in sizes]


def table(
    length: int,
    layer: str,
    threads: int,
    taken: dict[str, list[tuple[float, float]]],
    peaks: list[float],
) -> Table:
    """One row per contender; ratios are taken round by round, of time and of all cores' time."""
    out = Table(
        title=f"{LAYERS} layers, d_model {D_MODEL}, length {length:,}, batch {BATCH}, "
        f"{threads} threads, {len(next(iter(taken.values())))} interleaved rounds"
    )
    for heading in ("", "steps/s\n(median)", "ratio\n(least to most)", "of cores' time", "peak MB"):
        out.add_column(heading, justify="left" if not heading else "right")
    first: list[tuple[float, float]] | None = None
    for (name, seconds), peak in itertools.zip_longest(taken.items(), peaks):
        first = first or seconds
        pairs = list(zip(first, seconds, strict=True))
        shown = [
            spread([theirs[which] / ours[which] for theirs, ours in pairs]) for which in (0, 1)
        ]
        middle = statistics.median(wall for wall, _ in seconds)
        memory_used = "" if peak is None else f"{peak:,.0f}"
        out.add_row(name, f"{1 / middle:.2f}", *shown, memory_used)
    return out


def spread(ratios: list[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


if __name__ == "__main__":
    main()
