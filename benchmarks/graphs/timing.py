"""Several graphs timed in turns, fine-grained: what slows the machine slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray
from rich.table import Table

Run = Callable[[], object]

# Seconds of one turn: short against what disturbs a shared machine.
TURN = 0.008


@dataclass(frozen=True)
class Timed:
    """Microseconds per sample, ``turns`` (rounds,): the median of each turn."""

    turns: NDArray[np.float64]

    @property
    def fastest(self) -> float:
        """The turn that was disturbed least."""
        return float(self.turns.min())

    @property
    def median(self) -> float:
        """Over turns."""
        return float(np.median(self.turns))

    def over(self, other: Timed) -> tuple[float, float, float]:
        """How many times as long as another, round by round: median, 10th and 90th percentile."""
        ratios = self.turns / other.turns
        return tuple(np.percentile(ratios, (50, 10, 90)))  # type: ignore[return-value]


def session(
    model: ir.Model | onnx.ModelProto | str, profile: bool = False
) -> onnxruntime.InferenceSession:
    """As `s4edge.runtime.open_graph` makes it, for graphs of others, too."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    written = ir.to_proto(model) if isinstance(model, ir.Model) else model
    content = written if isinstance(written, str) else written.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def bound(graph: onnxruntime.InferenceSession, batch: int = 1) -> Run:
    """Two runs of a graph on fixed buffers: states there and back, as `s4edge.runtime.Stream`.

    States are the inputs whose names begin with "state", their successors the outputs whose names
    begin with "next", in the same order.
    """
    rng = np.random.default_rng(0)

    def buffer(port: onnxruntime.NodeArg) -> NDArray[np.float32]:
        shape = [size if isinstance(size, int) else batch for size in port.shape]
        return np.zeros(shape, np.float32)

    inputs, outputs = graph.get_inputs(), graph.get_outputs()
    states = [port for port in inputs if port.name.startswith("state")]
    after = [port for port in outputs if port.name.startswith("next")]
    pairs = [(buffer(port), buffer(port)) for port in states]
    others = [port for port in inputs if port not in states]
    kept: list[NDArray[np.float32]] = []
    bindings = [graph.io_binding(), graph.io_binding()]
    for turn, binding in enumerate(bindings):
        for port in others:
            value = rng.standard_normal(buffer(port).shape, np.float32)
            kept.append(value)
            _bind(binding.bind_input, port.name, value)
        for port in outputs:
            if port not in after:
                kept.append(buffer(port))
                _bind(binding.bind_output, port.name, kept[-1])
        for before, then, pair in zip(states, after, pairs, strict=True):
            _bind(binding.bind_input, before.name, pair[turn])
            _bind(binding.bind_output, then.name, pair[1 - turn])

    def run(kept: object = (kept, pairs)) -> None:  # the buffers live as long as what is bound
        graph.run_with_iobinding(bindings[0])
        graph.run_with_iobinding(bindings[1])

    return run


def _bind(bind: Callable[..., None], name: str, value: NDArray[np.float32]) -> None:
    bind(name, "cpu", 0, np.float32, value.shape, value.ctypes.data)


def median_of_turn(run: Run) -> float:
    """Nanoseconds of a call, over a turn."""
    clock = time.perf_counter_ns
    run()  # what the one before left in the caches is not its fault
    taken, end = [], clock() + int(TURN * 1e9)
    while True:
        start = clock()
        run()
        now = clock()
        taken.append(now - start)
        if now >= end:
            return float(np.median(taken))


def in_turns(
    contenders: dict[str, tuple[Run, int]],
    rounds: int,
    progress: Callable[[float], None] = lambda fraction: None,
) -> dict[str, Timed]:
    """Time each; a contender is what to call and how many samples a call takes."""
    for run, _ in contenders.values():
        end = time.perf_counter_ns() + 50_000_000
        while time.perf_counter_ns() < end:
            run()
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        for name, (run, samples) in contenders.items():
            found[name].append(median_of_turn(run) / 1e3 / samples)
        progress((turn + 1) / rounds)
    return {name: Timed(np.array(turns)) for name, turns in found.items()}


def table(title: str, timed: dict[str, Timed], against: str | dict[str, str]) -> Table:
    """One row per contender, and its ratio to another: one for all, or one for each."""
    out = Table(title=title, title_justify="left")
    for heading in ("", "µs per sample, fastest", "median", "times as long as", "(10 % to 90 %)"):
        out.add_column(heading, justify="right" if heading else "left")
    for name, times in timed.items():
        other = against if isinstance(against, str) else against.get(name, "")
        row = [name, f"{times.fastest:.2f}", f"{times.median:.2f}"]
        if other and other != name:
            middle, low, high = times.over(timed[other])
            row += [f"{middle:.2f} x {other}", f"{low:.2f} to {high:.2f}"]
        out.add_row(*row, *[""] * (5 - len(row)))
    return out
