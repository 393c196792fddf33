"""Forms of the state update and of products per channel, each alone in a graph, by shape."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from rich.table import Table
from timing import Run, bound, in_turns, session, table

from s4edge.export.onnx.builder import GraphBuilder
from s4edge.export.onnx.products import FORMS, causal, per_channel
from s4edge.export.onnx.slots import decay, lay_out, outputs, pack, spread, unpack
from s4edge.systems.modes import Modes


def _modes(channels: int, pairs: int) -> Modes:
    rng = np.random.default_rng(0)
    log_pole = -rng.uniform(0.01, 0.5, (channels, pairs)) + 1j * rng.uniform(
        0.1, 3, (channels, pairs)
    )
    return Modes.from_rows(log_pole, rng.standard_normal((channels, pairs)) + 0j)


def _start(channels: int, state: int) -> tuple[GraphBuilder, ir.Value, ir.Value]:
    """A graph, its input and its state."""
    g = GraphBuilder()
    return g, g.input("x", ["batch", channels]), g.input("state", ["batch", state])


def _run(g: GraphBuilder, y: ir.Value, channels: int, new: ir.Value, state: int) -> Run:
    g.output("y", y, ["batch", channels])
    g.output("next_state", new, ["batch", state])
    return bound(session(g.model("update")))


def slot_major(channels: int, pairs: int) -> Run:
    """What s4edge does: rows of channels, scaled so that outputs are plain sums."""
    slots = lay_out([_modes(channels, pairs)])
    g, x, state = _start(channels, 2 * slots.count)
    new = g.add("Add", decay(g, slots, unpack(g, slots, state)), spread(g, slots, x))
    return _run(g, outputs(g, slots, new), channels, pack(g, slots, new), 2 * slots.count)


def _coefficients(channels: int, pairs: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    a = rng.uniform(0.5, 0.99, (channels, pairs)) * np.exp(
        1j * rng.uniform(0, 3, (channels, pairs))
    )
    return a, rng.standard_normal((channels, pairs)), rng.standard_normal((channels, pairs))


def channel_major(channels: int, pairs: int) -> Run:
    """Real and imaginary parts (channels, pairs): the sum runs over short rows."""
    a, b, c = _coefficients(channels, pairs)
    g, x, state = _start(channels, 2 * channels * pairs)
    real, imag = g.split(g.reshape(state, [0, 2, channels, pairs]), [1, 1], axis=1)
    u = g.reshape(x, [0, 1, channels, 1])
    new_real = g.add(
        "Sub", g.add("Mul", real, g.constant(a.real)), g.add("Mul", imag, g.constant(a.imag))
    )
    new_imag = g.add(
        "Add", g.add("Mul", imag, g.constant(a.real)), g.add("Mul", real, g.constant(a.imag))
    )
    new_real = g.add("Add", new_real, g.add("Mul", u, g.constant(b)))
    new = g.concat([new_real, new_imag], axis=1)
    y = g.add("ReduceSum", g.add("Mul", new, g.constant(np.stack([c, -c]))), g.constant([1, 3]),
              keepdims=0)  # fmt: skip
    return _run(g, y, channels, g.reshape(new, [0, -1]), 2 * channels * pairs)


def batched_product(channels: int, pairs: int) -> Run:
    """One (2 pairs + 1) x (2 pairs + 1) matrix per channel: state and input to state and output."""
    size = 2 * pairs
    g, x, state = _start(channels, size * channels)
    matrix = np.random.default_rng(0).standard_normal((channels, size + 1, size + 1)) / size
    both = [g.reshape(state, [0, channels, 1, size]), g.reshape(x, [0, channels, 1, 1])]
    new, y = g.split(g.add("MatMul", g.concat(both), g.constant(matrix)), [size, 1])
    rows = [g.reshape(each, [0, -1]) for each in (y, new)]
    return _run(g, rows[0], channels, rows[1], size * channels)


def grouped_convolution(channels: int, pairs: int) -> Run:
    """The same matrices as a convolution of one tap with a group per channel."""
    size = 2 * pairs
    g, x, state = _start(channels, size * channels)
    weight = np.random.default_rng(0).standard_normal((channels * (size + 1), size + 1, 1)) / size
    both = g.concat([g.reshape(state, [0, channels, size]), g.reshape(x, [0, channels, 1])])
    both = g.reshape(both, [0, channels * (size + 1), 1])
    product = g.add("Conv", both, g.constant(weight), group=channels, kernel_shape=[1])
    new, y = g.split(g.reshape(product, [0, channels, size + 1]), [size, 1])
    rows = [g.reshape(each, [0, -1]) for each in (y, new)]
    return _run(g, rows[0], channels, rows[1], size * channels)


def second_order_sections(channels: int, pairs: int) -> Run:
    """``w_t = a1 w_{t-1} + a2 w_{t-2} + u``, ``y = sum b0 w_t + b1 w_{t-1}``.

    Only to compare: float32 shifts slow poles in it, as it subtracts two nearly equal numbers.
    """
    a, b, c = _coefficients(channels, pairs)
    g, x, state = _start(channels, 2 * pairs * channels)
    last, before = g.split(g.reshape(state, [0, 2, pairs, channels]), [1, 1], axis=1)
    u = g.reshape(x, [0, 1, 1, channels])
    decayed = g.add("Add", g.add("Mul", last, g.constant(2 * a.real.T)),
                    g.add("Mul", before, g.constant(-(np.abs(a) ** 2).T)))  # fmt: skip
    new = g.concat([g.add("Add", decayed, u), last], axis=1)
    taps = g.add("Mul", new, g.constant(np.stack([b.T, c.T])))
    rows = g.reshape(taps, [0, 2 * pairs, channels])
    y = g.reshape(g.add("MatMul", g.constant(np.ones((1, 2 * pairs))), rows), [0, channels])
    return _run(g, y, channels, g.reshape(new, [0, -1]), 2 * pairs * channels)


UPDATES: dict[str, Callable[[int, int], Run]] = {
    "slot-major rows": slot_major,
    "channel-major": channel_major,
    "batched product": batched_product,
    "grouped convolution": grouped_convolution,
    "second-order sections": second_order_sections,
}


def forms_table(rounds: int) -> list[Table]:
    """State updates for one sample, then products per channel for chunks."""
    out = []
    for channels, pairs in itertools.product((128, 512), (1, 4, 8, 32)):
        timed = in_turns(
            {name: (make(channels, pairs), 2) for name, make in UPDATES.items()}, rounds
        )
        title = f"State update of {channels} channels with {pairs} pairs"
        out.append(table(title, timed, "slot-major rows"))
    for columns, rows in ((4, 16), (8, 16), (16, 16), (64, 16), (16, 64)):
        contenders = {form: (_product(512, rows, columns, form), 2) for form in FORMS}
        timed = in_turns(contenders, rounds)
        out.append(
            table(f"512 products of {columns} with {rows} x {columns}", timed, "elementwise")
        )
    for channels, length in ((128, 8), (128, 16), (128, 32), (100, 16)):
        contenders = {"convolution": (_convolution(channels, length), 2)}
        contenders |= {form: (_product(channels, length, length, form), 2) for form in FORMS}
        timed = in_turns(contenders, rounds)
        out.append(
            table(f"Kernels of {channels} channels on {length} samples", timed, "convolution")
        )
    return out


def _product(channels: int, rows: int, columns: int, form: str) -> Run:
    g = GraphBuilder()
    matrix = np.random.default_rng(0).standard_normal((rows, columns, channels))
    x = g.input("x", [1, columns, channels])
    y = per_channel(g, x, matrix, form)  # type: ignore[arg-type]
    g.output("y", y, [1, rows, channels])
    return bound(session(g.model("products")))


def _convolution(channels: int, length: int) -> Run:
    g = GraphBuilder()
    kernel = np.random.default_rng(0).standard_normal((channels, length))
    y = causal(g, g.input("x", [length, channels]), kernel, length)
    g.output("y", y, [length, channels])
    return bound(session(g.model("convolution")))
