"""What graphs cost, and what they are worth: every figure about graphs in one command.

    python benchmarks/graphs/run.py [PART]... [--upstream FOLDER] [--rounds N]

PART is step, chunk, states, peers, limit, quantizer, parity, drift, memory or forms; without, all.
Everything timed is timed in turns of 8 ms, one thread; a ratio is taken round by round. FOLDER is a
checkout of state-spaces/s4 (``pip install einops``); without it those rows are left out. Part
"states" writes docs/graphs/states.png.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import matplotlib
import numpy as np
import onnx
import onnxruntime
import torch
from forms import forms_table
from models import D_MODEL, LAYERS, ROOT, SHARED, plain, shipped, trained
from others import RecurrentNetwork, recurrent_graph, torch_export, upstream_step, without_states
from recurrent import compressed_digits, trained_network
from rich.console import Console
from rich.table import Table
from timing import Timed, bound, in_turns, session, table

import s4edge
from s4edge.export.lowering import lower, lower_sequences
from s4edge.export.onnx.chunk_graph import chunk_graph
from s4edge.export.onnx.precision import PRECISIONS
from s4edge.export.onnx.sequence_graph import sequence_graph
from s4edge.export.onnx.step_graph import step_graph
from s4edge.model.sequence_model import SequenceModel
from s4edge.runtime import Stream, open_graph, predict

sys.path.insert(0, str(ROOT / "benchmarks"))
sys.path.insert(0, str(ROOT / "examples" / "digits"))
from data import load_digits_sequences
from trained_checkpoints import load_test

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import NullFormatter

STATES = (64, 32, 16, 8, 4, 2)
CHUNK = 16
# Test sequences that modes and precisions are compared on.
SAMPLES = 250
console = Console(width=120)


def step_of(model: SequenceModel) -> tuple[Callable[[], object], int]:
    """A contender of `timing.in_turns`."""
    return bound(session(step_graph(lower(model)))), 2


def chunk_of(model: SequenceModel, chunk: int = CHUNK) -> tuple[Callable[[], object], int]:
    """A contender of `timing.in_turns`."""
    return bound(session(chunk_graph(lower(model), chunk))), 2 * chunk


def step(upstream: Path | None, rounds: int) -> None:
    """The step graph against upstream, torch's exporter and the graph without states."""
    floor = "without state updates"
    contenders = {floor: (bound(session(without_states(plain(2)))), 2)}
    contenders |= {f"s4edge, state {n}": step_of(plain(n)) for n in STATES}
    for n in (64, 16, 8):
        contenders[f"torch.onnx.export, state {n}"] = (bound(session(torch_export(n))), 2)
    if upstream is not None:
        for n in (64, 8):
            contenders[f"upstream's step(), eager, state {n}"] = (upstream_step(upstream, n), 1)
    timed = in_turns(contenders, rounds)
    against = {name: floor if name.startswith("s4edge") else "s4edge, state " + name.split()[-1]
               for name in timed if name != floor}  # fmt: skip
    console.print(table(f"Step graph: {LAYERS} layers, d_model {D_MODEL}, GLU", timed, against))
    for name, model in shipped().items():
        of_model = {floor: (bound(session(without_states(model))), 2)}
        of_model["state 64"] = step_of(model)
        for n in (8, 2):
            of_model[f"state {n}"] = step_of(s4edge.compress(model, n))
        console.print(table(f"Step graph: {name}", in_turns(of_model, rounds), floor))


def chunk(upstream: Path | None, rounds: int) -> None:
    """Chunks against single samples, and small states against large ones."""
    contenders = {}
    for n in (64, 16, 8, 2):
        contenders[f"step, state {n}"] = step_of(plain(n))
        for size in (8, CHUNK, 32):
            contenders[f"chunk {size}, state {n}"] = chunk_of(plain(n), size)
    timed = in_turns(contenders, rounds)
    against = {}
    for name in timed:
        kind, state = name.split(", ")
        against[name] = f"step, {state}" if kind != "step" else ""
    console.print(table(f"Chunk graph: {LAYERS} layers, d_model {D_MODEL}, GLU", timed, against))
    large, small = timed[f"chunk {CHUNK}, state 64"], timed[f"chunk {CHUNK}, state 8"]
    middle, low, high = large.over(small)
    console.print(f"chunk {CHUNK}: state 64 takes {middle:.2f} ({low:.2f} to {high:.2f}) times as "
                  "long as state 8")  # fmt: skip
    for name, model in shipped().items():
        of_model = {}
        for n in (64, 8, 2):
            small_model = model if n == 64 else s4edge.compress(model, n)
            of_model[f"step, state {n}"] = step_of(small_model)
            of_model[f"chunk {CHUNK}, state {n}"] = chunk_of(small_model)
        pairs = {key: key.replace(f"chunk {CHUNK}", "step") for key in of_model}
        console.print(table(f"Chunk graph: {name}", in_turns(of_model, rounds), pairs))


def states(upstream: Path | None, rounds: int, folder: Path = Path("docs/graphs")) -> None:
    """Time per sample against state size, each mode; with a plot."""
    length = 1024
    contenders = {}
    for n in STATES:
        model = plain(n)
        contenders[f"step, state {n}"] = step_of(model)
        for size in (8, 32):
            contenders[f"chunk {size}, state {n}"] = chunk_of(model, size)
        whole, x = (
            session(sequence_graph(lower_sequences(model))),
            np.zeros((1, length, 1), np.float32),
        )
        run = lambda whole=whole, x=x: whole.run(["y"], {"x": x})  # noqa: E731
        contenders[f"sequence, state {n}"] = (run, length)
    contenders["without state updates, state 0"] = (bound(session(without_states(plain(2)))), 2)
    timed = in_turns(contenders, max(10, rounds // 3))
    console.print(table("Time per sample", timed, ""))
    _plot(timed, folder)


def _plot(timed: dict[str, Timed], folder: Path) -> None:
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for kind in ("step", "chunk 8", "chunk 32", "sequence"):
        points = np.array([timed[f"{kind}, state {n}"].turns for n in STATES])
        axes.plot(STATES, np.median(points, axis=1), marker="o", label=kind)
        axes.fill_between(STATES, *np.percentile(points, (10, 90), axis=1), alpha=0.2)
    floor = timed["without state updates, state 0"].median
    axes.axhline(floor, color="grey", linestyle="--", label="step without state updates")
    axes.set(xscale="log", yscale="log", xlabel="state size", ylabel="µs per sample",
             title=f"{LAYERS} layers, d_model {D_MODEL}, GLU, 1 thread")  # fmt: skip
    axes.set_xticks(STATES, [str(n) for n in STATES])
    axes.xaxis.set_minor_formatter(NullFormatter())
    ticks = (5, 10, 20, 50, 100, 200)
    axes.set_yticks(ticks, [str(each) for each in ticks])
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(loc="upper left", fontsize="small", ncols=2)
    axes.set_ylim(5, 400)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "states.png", dpi=120)
    console.print(f"Wrote {folder / 'states.png'}")


def peers(upstream: Path | None, rounds: int) -> None:
    """GRU and LSTM graphs: of the same width and depth, and trained on the digits, too."""
    kinds = ("GRU", "LSTM")
    contenders = {"step, state 8": step_of(plain(8)), "step, state 64": step_of(plain(64))}
    contenders |= {f"{kind}, step": recurrent_of(RecurrentNetwork(kind)) for kind in kinds}
    timed = in_turns(contenders, rounds)
    console.print(table("One sample per run", timed, "step, state 8"))
    contenders = {f"chunk {CHUNK}, state {n}": chunk_of(plain(n)) for n in (8, 64)}
    contenders |= {f"{kind}, {CHUNK} samples": recurrent_of(RecurrentNetwork(kind), CHUNK)
                   for kind in kinds}  # fmt: skip
    timed = in_turns(contenders, rounds)
    console.print(table(f"{CHUNK} samples per run", timed, f"chunk {CHUNK}, state 8"))

    x_train, y_train, x, y = load_digits_sequences()
    small, accuracy = compressed_digits(x_train, x, y, state=2)
    named = f"s4edge, state 2: {accuracy:.1%}"
    contenders = {f"{named}, step": step_of(small), f"{named}, chunk {CHUNK}": chunk_of(small)}
    for kind in kinds:
        network, accuracy = trained_network(kind, (x_train, y_train), (x, y))
        for size in (1, CHUNK):
            label = f"{kind}: {accuracy:.1%}, {'step' if size == 1 else f'{size} samples'}"
            contenders[label] = recurrent_of(network, size)
    timed = in_turns(contenders, rounds)
    against = {name: f"{named}, step" if name.endswith("step") else f"{named}, chunk {CHUNK}"
               for name in timed}  # fmt: skip
    console.print(table("8x8 digits, accuracy on 500 held out", timed, against))


def recurrent_of(network: RecurrentNetwork, length: int = 1) -> tuple[Callable[[], object], int]:
    """A contender of `timing.in_turns`."""
    return bound(session(recurrent_graph(network, length))), 2 * length


def limit(upstream: Path | None, rounds: int) -> None:
    """Multiply-adds and bytes against what one core reaches in a plain matrix product."""
    size = 512
    g = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[{size},{size}] x) => '
        f"(float[{size},{size}] y) {{ y = MatMul(x, x) }}"
    )
    contenders = {"matrix product": (bound(session(g)), 2)}
    for n in (64, 8):
        contenders[f"step, state {n}"] = step_of(plain(n))
        contenders[f"chunk {CHUNK}, state {n}"] = chunk_of(plain(n))
    big = np.zeros(1 << 24, np.float32)  # 64 MB: no cache holds it
    contenders["copy"] = (lambda: np.copyto(big[: 1 << 23], big[1 << 23 :]), 1)
    timed = in_turns(contenders, rounds)
    rate = size**3 / timed["matrix product"].fastest  # multiply-adds per µs
    bandwidth = 2 * 4 * (1 << 23) / timed["copy"].fastest  # bytes per µs
    out = Table(title="Distance to the limit", title_justify="left")
    for heading in ("", "multiply-adds per sample", "bytes per sample", "µs at the product's rate",
                    "µs to move the bytes", "µs measured, fastest"):  # fmt: skip
        out.add_column(heading, justify="right" if heading else "left")
    for n, chunked in itertools.product((64, 8), (False, True)):
        model, per_run = plain(n), CHUNK if chunked else 1
        dense = sum(block.mixing.weight.numel() for block in model.blocks) + 2 * D_MODEL
        held = model.config.real_states
        # Of a real state: decay and crossing, input, output; in chunks T in and T out, and a decay.
        work = dense + (4 * held if not chunked else 2 * held + (CHUNK + 1) // 2 * LAYERS * D_MODEL
                        + 2 * held / CHUNK)  # fmt: skip
        weights = 4 * (dense + 4 * held) if not chunked else (
            4 * (dense + 2 * held * CHUNK + LAYERS * D_MODEL * CHUNK)
        )  # fmt: skip
        moved = (weights + 4 * 2 * held) / per_run
        name = f"chunk {CHUNK}, state {n}" if chunked else f"step, state {n}"
        out.add_row(name, f"{work:,.0f}", f"{moved:,.0f}", f"{work / rate:.2f}",
                    f"{moved / bandwidth:.2f}", f"{timed[name].fastest:.2f}")  # fmt: skip
    console.print(out)
    console.print(f"one core: {rate / 1e3:.1f} G multiply-adds/s in a {size}^3 product, "
                  f"{bandwidth / 1e3:.1f} GB/s copied")  # fmt: skip


def quantizer(upstream: Path | None, rounds: int) -> None:
    """Precisions against each other and against onnxruntime's own quantizer."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as scratch:
        contenders, sizes = {}, {}
        for precision in PRECISIONS:
            for mode in ("step", "chunk"):
                path = Path(scratch) / f"{mode}-{precision}.onnx"
                size = CHUNK if mode == "chunk" else None
                s4edge.export_onnx(plain(8), path, mode, chunk=size, precision=precision)
                contenders[f"{mode}, {precision}"] = (bound(session(str(path))), 2 * (size or 1))
                sizes[f"{mode}, {precision}"] = path.stat().st_size
        for mode in ("step", "chunk"):
            path = Path(scratch) / f"{mode}-theirs.onnx"
            quantize_dynamic(Path(scratch) / f"{mode}-fp32.onnx", path, per_channel=True,
                             weight_type=QuantType.QInt8)  # fmt: skip
            name = f"{mode}, onnxruntime's int8"
            contenders[name] = (bound(session(str(path))), 2 * (CHUNK if mode == "chunk" else 1))
            sizes[name] = path.stat().st_size
        timed = in_turns(contenders, rounds)
        against = {name: f"{name.split(', ')[0]}, fp32" for name in timed}
        console.print(
            table(f"Precisions: {LAYERS} layers, d_model {D_MODEL}, state 8", timed, against)
        )
        console.print("  ".join(f"{name}: {size / 1e3:,.0f} kB" for name, size in sizes.items()))


def parity(upstream: Path | None, rounds: int) -> None:
    """Every mode and precision against the outputs that upstream's code recorded."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    out = Table(title="Against upstream's recorded outputs", title_justify="left")
    for heading in ("", "mode", "precision", "kB", "largest error", "of outputs up to", "accuracy"):
        out.add_column(heading, justify="left" if heading in ("", "mode", "precision") else "right")
    found = trained()
    if not found:
        console.print("parity: no trained checkpoints here (see benchmarks/graphs/models.py)")
    with tempfile.TemporaryDirectory() as scratch:
        for (name, path), mode in itertools.product(found.items(), ("step", "chunk", "sequence")):
            with np.load(path.with_suffix(".npz")) as recorded:
                logits, y = recorded["test_logits"][:SAMPLES], recorded["test_labels"][:SAMPLES]
            x = load_test(SHARED, name).x[:SAMPLES]
            graph = Path(scratch) / "m.onnx"
            kinds = [*PRECISIONS, *(["onnxruntime's int8"] if mode == "step" else [])]
            for precision in kinds:
                if precision in PRECISIONS:
                    s4edge.export_onnx(
                        s4edge.load(path), graph, mode, precision=precision,
                        chunk=CHUNK if mode == "chunk" else None,
                    )  # fmt: skip
                    got = predict(open_graph(graph), x)
                else:
                    s4edge.export_onnx(s4edge.load(path), graph, mode)
                    theirs = Path(scratch) / "theirs.onnx"
                    quantize_dynamic(graph, theirs, per_channel=True, weight_type=QuantType.QInt8)
                    got, graph_size = predict(open_graph(theirs), x), theirs.stat().st_size
                size = graph.stat().st_size if precision in PRECISIONS else graph_size
                out.add_row(
                    name, mode, precision, f"{size / 1e3:,.0f}",
                    f"{np.abs(got - logits).max():.2g}", f"{np.abs(logits).max():.3g}",
                    f"{(got.argmax(1) == y).mean():.1%} "
                    f"(upstream {(logits.argmax(1) == y).mean():.1%})",
                )  # fmt: skip
    if found:
        console.print(out)


def drift(upstream: Path | None, rounds: int, samples: int = 1_000_000) -> None:
    """A million samples through step and chunk graphs, against the convolution in float64."""
    out = Table(title=f"{samples:,} samples of noise, streamed", title_justify="left")
    for heading in ("", "error over the last 1,000", "over the first 1,000", "of outputs up to",
                    "memory grown by"):  # fmt: skip
        out.add_column(heading, justify="right" if heading else "left")
    with tempfile.TemporaryDirectory() as scratch:
        digits = shipped()["digits"]
        for name, model in (("digits", digits), ("digits, state 2", s4edge.compress(digits, 2))):
            x = np.random.default_rng(0).random((1, samples, 1), dtype=np.float32)
            expected = _in_float64(model, x)
            for mode in ("step", "chunk"):
                path = Path(scratch) / "m.onnx"
                s4edge.export_onnx(model, path, mode, chunk=CHUNK if mode == "chunk" else None)
                stream = Stream(open_graph(path))
                first = stream.extend(x[:, :1008])
                before = _resident()
                for start in range(1008, samples - 1008, 9984):
                    stream.extend(x[:, start : min(start + 9984, samples - 1008)])
                last = np.concatenate([stream.extend(x[:, -1008:]), stream.finish()], axis=1)
                grown = _resident() - before
                errors = [np.abs(got[:, -1000:] - want).max() for got, want in
                          ((last, expected[:, -1000:]), (first, expected[:, 8:1008]))]  # fmt: skip
                out.add_row(f"{name}, {mode}", *(f"{e:.2g}" for e in errors),
                            f"{np.abs(expected).max():.3g}", f"{grown / 1e3:,.0f} kB")  # fmt: skip
    console.print(out)


def _in_float64(model: SequenceModel, x: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return model.double().running(torch.from_numpy(x).double()).float().numpy()


def _resident() -> int:
    """Bytes that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


_ONLY_STREAMS = """
import sys, numpy, onnxruntime
from pathlib import Path
def peak():
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) * 1024
bare = peak()
import s4edge.runtime as r
with_s4edge = peak()
if len(sys.argv) > 1:
    graph = r.open_graph(sys.argv[1]); stream = r.Stream(graph)
    x = numpy.ones(stream._x.shape, numpy.float32)
    for _ in range(5000): stream.step(x)
print(bare, with_s4edge, peak())
"""


def memory(upstream: Path | None, rounds: int) -> None:
    """Peak memory of a process that only streams, above one that only imports onnxruntime."""
    out = Table(
        title="Peak resident memory of a process that only streams, MB", title_justify="left"
    )
    for heading in ("", "import onnxruntime", "import s4edge.runtime", "streaming",
                    "above import onnxruntime", "graph's file"):  # fmt: skip
        out.add_column(heading, justify="right" if heading else "left")
    with tempfile.TemporaryDirectory() as scratch:
        for n, mode in itertools.product((64, 8), ("step", "chunk")):
            path = Path(scratch) / f"{mode}{n}.onnx"
            s4edge.export_onnx(plain(n), path, mode, chunk=CHUNK if mode == "chunk" else None)
            command = [sys.executable, "-c", _ONLY_STREAMS, str(path)]
            runs = []
            for _ in range(3):
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                runs.append([int(each) for each in done.stdout.split()])
            bare, imported, peak = np.median(runs, axis=0) / 1e6
            out.add_row(f"{mode}, state {n}", f"{bare:.1f}", f"{imported:.1f}", f"{peak:.1f}",
                        f"{peak - bare:.1f}", f"{path.stat().st_size / 1e6:.1f}")  # fmt: skip
    console.print(out)


def forms(upstream: Path | None, rounds: int) -> None:
    """Forms of the state update and of products per channel, by shape."""
    for each in forms_table(rounds):
        console.print(each)


PARTS: dict[str, Callable[[Path | None, int], None]] = {
    "step": step, "chunk": chunk, "states": states, "peers": peers, "limit": limit,
    "quantizer": quantizer, "parity": parity, "drift": drift, "memory": memory, "forms": forms,
}  # fmt: skip


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--upstream", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--rounds", type=click.IntRange(min=3), default=60, show_default=True)
def main(parts: tuple[str, ...], upstream: Path | None, rounds: int) -> None:
    """Measure PARTs and print them."""
    torch.set_num_threads(1)
    console.print(f"onnxruntime {onnxruntime.__version__}, torch {torch.__version__}, 1 thread")
    for part in parts or PARTS:
        began = time.perf_counter()
        PARTS[part](upstream, rounds)
        console.print(f"({part}: {time.perf_counter() - began:.0f} s)\n")


if __name__ == "__main__":
    main()
