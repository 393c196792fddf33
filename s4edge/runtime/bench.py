"""Latency and memory of graphs, measured side by side on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import onnxruntime

import s4edge
from s4edge.errors import S4EdgeError
from s4edge.runtime.device import describe_device
from s4edge.runtime.graph import GraphInfo, read_info

# Every model is measured in this many turns, so that a machine that gets slower or faster
# meanwhile does so for all of them.
ROUNDS = 5


@dataclasses.dataclass(frozen=True)
class GraphResult:
    """What one graph costs.

    Attributes:
        model: the graph's path, as it was given.
        mode: ``"step"`` or ``"chunk"``.
        samples_per_run: samples that one run consumes.
        threads: threads that one run may use.
        latency_us: microseconds per run: ``min``, ``p50``, ``p90``, ``p99`` over all rounds.
        us_per_sample: the median latency divided by ``samples_per_run``.
        samples_per_second: all samples over all measured time, so that, unlike
            ``us_per_sample``, it feels the slow runs too.
        runs: runs measured.
        peak_rss_bytes: peak resident memory of a process that streams this graph and nothing
            else.
        baseline_rss_bytes: that of the same process before it loaded the graph: Python, numpy
            and the runtime alone.
        model_bytes: size of the graph's file.
        state_bytes: size of one stream's packed state.
        state_size: state size of the model's layers, None where they differ or have none.
        load_seconds: time to load the graph.
    """

    model: str
    mode: str
    samples_per_run: int
    threads: int
    latency_us: Mapping[str, float]
    us_per_sample: float
    samples_per_second: float
    runs: int
    peak_rss_bytes: int
    baseline_rss_bytes: int
    model_bytes: int
    state_bytes: int
    state_size: float | None
    load_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Give the attributes as one JSON object."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class BenchResult:
    """What the benchmark of one or several graphs found.

    Attributes:
        device: the machine, as `describe_device` gives it.
        runtime: what ran the graphs, such as ``"onnxruntime 1.20.1"``.
        threads: threads that one run might use.
        results: one for each graph, in the order given.
    """

    device: Mapping[str, str | int | None]
    runtime: str
    threads: int
    results: Sequence[GraphResult]

    def to_json(self) -> dict[str, Any]:
        """Give the answer of ``s4edge bench --json``."""
        return {
            "device": dict(self.device),
            "runtime": self.runtime,
            "threads": self.threads,
            "results": [result.to_json() for result in self.results],
        }


def bench(
    paths: Sequence[Path | str],
    threads: int = 1,
    duration: float = 3.0,
    progress: Callable[[float], None] | None = None,
) -> BenchResult:
    """Measure step and chunk graphs, each in a process of its own, one sequence at a time.

    Only one of the processes works at any time; they take turns.

    Args:
        paths: the graphs.
        threads: threads that one run may use.
        duration: seconds of measuring per graph, warming up not counted.
        progress: called with the fraction done, 0 to 1.

    Raises:
        S4EdgeError: no graph, a bad one, or a bad number; or a process failed.
    """
    if not paths:
        raise S4EdgeError("no graph to measure; export one with: s4edge export MODEL --onnx")
    if threads < 1:
        raise S4EdgeError(f"threads must be at least 1, not {threads}")
    if not (duration > 0 and math.isfinite(duration)):
        raise S4EdgeError(f"duration must be more than 0 seconds, not {duration}")
    infos = [read_info(path) for path in paths]
    for info in infos:
        if not info.streams:
            raise S4EdgeError(
                f"{info.path} takes whole sequences; bench measures step and chunk graphs. Export "
                "one with: s4edge export MODEL --onnx"
            )
    done, turns = 0, len(infos) * (ROUNDS + 1)

    def turn_done() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done / turns)

    with contextlib.ExitStack() as stack:
        workers, started = [], []
        for info in infos:
            workers.append(stack.enter_context(_Worker(info, threads)))
            # One after another, so that none is slowed down by another's start.
            started.append(workers[-1].read())
        for worker in workers:
            worker.ask(f"warm {max(0.2, 0.1 * duration)}")
            turn_done()
        for turn in range(ROUNDS):
            # To and fro, so that a steady drift of the machine cancels out.
            for worker in workers if turn % 2 == 0 else reversed(workers):
                worker.ask(f"run {duration / ROUNDS}")
                turn_done()
        reports = [worker.ask("report") for worker in workers]
    return BenchResult(
        device=describe_device(),
        runtime=f"onnxruntime {onnxruntime.__version__}",
        threads=threads,
        results=[_result(*found, threads) for found in zip(infos, started, reports)],
    )


def _result(
    info: GraphInfo, start: Mapping[str, Any], report: Mapping[str, Any], threads: int
) -> GraphResult:
    per_run = info.samples_per_run or 1
    samples = report["runs"] * per_run
    return GraphResult(
        model=str(info.path),
        mode=info.mode,
        samples_per_run=per_run,
        threads=threads,
        latency_us=report["latency_us"],
        us_per_sample=report["latency_us"]["p50"] / per_run,
        samples_per_second=samples / report["seconds"],
        runs=report["runs"],
        peak_rss_bytes=report["peak_rss_bytes"],
        baseline_rss_bytes=start["baseline_rss_bytes"],
        model_bytes=info.model_bytes,
        state_bytes=info.state_bytes,
        state_size=info.state_size,
        load_seconds=start["load_seconds"],
    )


class _Worker:
    """The parent's end of one `s4edge.runtime.worker`; leaving the context kills the process."""

    def __init__(self, info: GraphInfo, threads: int) -> None:
        self._path = info.path
        self._command = [
            *(sys.executable, "-m", "s4edge.runtime.worker"),
            *(str(info.path.resolve()), "--threads", str(threads)),
        ]

    def __enter__(self) -> _Worker:
        # A file, since nobody reads a pipe while waiting for an answer.
        self._errors = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                # `-m` looks in this folder first: where this very s4edge is, and not where
                # the user is, whose files could bear the names of modules.
                cwd=Path(s4edge.__path__[0]).resolve().parent,
            )
        except BaseException:
            self._errors.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):  # a command that a dead worker never read
                if pipe is not None:
                    pipe.close()

    def ask(self, command: str) -> dict[str, Any]:
        """Send one command and give the answer to it.

        Raises:
            S4EdgeError: the worker has failed.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `read` finds out why
            self._process.stdin.write(f"{command}\n")
            self._process.stdin.flush()
        return self.read()

    def read(self) -> dict[str, Any]:
        """Give the next answer.

        Raises:
            S4EdgeError: the worker has failed.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()
            how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
            raise S4EdgeError(
                f"measuring {self._path} failed: the process ended with {how}"
                + (f": {said[-1]}" if said else "")
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise S4EdgeError(str(answer["error"]))
        return answer
