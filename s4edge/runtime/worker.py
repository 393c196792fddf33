"""A process of its own that measures one graph: ``python -m s4edge.runtime.worker GRAPH``.

One graph per process, so that its peak memory is its own. The process obeys one command per
line of standard input and answers each with one line of JSON:

    (at the start)   {"ready": true, "baseline_rss_bytes": ..., "load_seconds": ...}
    warm SECONDS     {"runs": ...}                     streams without keeping the latencies
    run SECONDS      {"runs": ...}                     streams and keeps them
    report           {"runs": ..., "seconds": ..., "latency_us": {...}, "peak_rss_bytes": ...}
    quit             (ends, as the end of the input does)

An error of the user's is answered with {"error": ...} and exit status 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from s4edge.errors import S4EdgeError
from s4edge.runtime.graph import open_graph
from s4edge.runtime.memory import peak_rss_bytes
from s4edge.runtime.stream import Stream

# Enough different samples that no run sees a pattern, few enough to weigh nothing.
INPUT_SAMPLES = 256


class Latencies:
    """Latencies in ns, in a buffer that doubles when it is full."""

    def __init__(self) -> None:
        self._buffer: npt.NDArray[np.int64] = np.empty(1 << 14, np.int64)
        self._count = 0

    def add(self, nanoseconds: int) -> None:
        """Append one latency."""
        if self._count == len(self._buffer):
            self._buffer = np.concatenate((self._buffer, np.empty_like(self._buffer)))
        self._buffer[self._count] = nanoseconds
        self._count += 1

    @property
    def values(self) -> npt.NDArray[np.int64]:
        """All latencies so far, (runs,)."""
        return self._buffer[: self._count]


class Worker:
    """One graph, loaded and streaming.

    Attributes:
        baseline_rss_bytes: peak memory with the runtime imported and no graph loaded.
        load_seconds: time to load the graph and to allocate the stream.
    """

    def __init__(self, path: Path, threads: int) -> None:
        rng = np.random.default_rng(0)
        self.baseline_rss_bytes = peak_rss_bytes()
        start = time.perf_counter()
        graph = open_graph(path, threads)
        self._stream = Stream(graph)
        self.load_seconds = time.perf_counter() - start
        run = self._stream.samples_per_run
        between = (run,) if graph.info.mode == "chunk" else ()
        shape = (max(1, INPUT_SAMPLES // run), 1, *between, graph.info.d_input)
        self._samples = rng.standard_normal(shape, dtype=np.float32)
        # Runs after which a sequence is over, where the model knows one length only.
        self._runs = None if graph.info.length is None else -(-graph.info.length // run)
        self._latencies = Latencies()
        self._peak_rss_bytes = 0
        self._steps = 0

    def run(self, seconds: float, latencies: Latencies) -> int:
        """Stream for ``seconds``, at least one sample; give the number of runs.

        What is timed is what a user of `Stream.step` pays, nothing else.
        """
        samples, step, clock = self._samples, self._stream.step, time.perf_counter_ns
        runs = 0
        end = clock() + int(seconds * 1e9)
        while True:
            if self._runs is not None and self._steps % self._runs == 0:
                self._stream.reset()
            sample = samples[self._steps % len(samples)]
            start = clock()
            step(sample)
            now = clock()
            latencies.add(now - start)
            self._steps += 1
            runs += 1
            if now >= end:
                return runs

    def answer(self, command: str, seconds: float) -> Mapping[str, object]:
        """Carry out one command.

        Raises:
            S4EdgeError: the command is unknown.
        """
        if command == "warm":
            runs = self.run(seconds, Latencies())
            # Read here, where all is loaded and has run: later the bench's own record of
            # latencies grows with --duration, and is no memory that a user's stream needs.
            self._peak_rss_bytes = peak_rss_bytes()
            return {"runs": runs}
        if command == "run":
            return {"runs": self.run(seconds, self._latencies)}
        if command == "report":
            return self._report()
        raise S4EdgeError(f"the benchmark's worker knows no command {command!r}")

    def _report(self) -> Mapping[str, object]:
        values = self._latencies.values
        if not len(values):
            raise S4EdgeError("the benchmark's worker was asked for a report before any run")
        points = (0, 50, 90, 99)
        quantiles = np.percentile(values, points) / 1e3
        return {
            "runs": len(values),
            "seconds": float(values.sum()) / 1e9,
            "latency_us": {
                "min" if point == 0 else f"p{point}": round(float(quantile), 3)
                for point, quantile in zip(points, quantiles)
            },
            "peak_rss_bytes": self._peak_rss_bytes or peak_rss_bytes(),
        }


def main() -> int:
    """Obey standard input until it ends; give the exit status."""
    parser = argparse.ArgumentParser(prog="python -m s4edge.runtime.worker")
    parser.add_argument("graph", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    try:
        worker = Worker(arguments.graph, arguments.threads)
        _say(
            {
                "ready": True,
                "baseline_rss_bytes": worker.baseline_rss_bytes,
                "load_seconds": worker.load_seconds,
            }
        )
        for line in sys.stdin:
            command, _, argument = line.strip().partition(" ")
            if command == "quit":
                break
            _say(worker.answer(command, float(argument or 0)))
    except S4EdgeError as error:
        _say({"error": str(error)})
        return 1
    return 0


def _say(answer: Mapping[str, object]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    sys.exit(main())
