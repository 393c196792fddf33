"""A process of its own that measures one graph.

    python -m s4edge.bench.worker GRAPH

One graph per process, so that its peak memory is its own. The process loads the graph, makes one
run, and then obeys one command per line of standard input, answering each with one line of JSON:

    (at the start)        {"ready": true, "runtime_bytes": ..., "memory_is_told": ...,
                          "import_seconds": ..., "load_seconds": ..., "first_run_us": ...}
    run SECONDS [US]      {"latency_ns": {...}, "missed": ..., "call_ns": ..., "cpu_seconds": ...}
                          runs back to back; missed: those longer than US; call_ns: what a call
                          from Python takes where the model has a clock of its own, else null
    pace RUNS PERIOD_US US
                          {"response_ns": {...}, "jitter_ns": {...}, "missed": ...,
                          "cpu_seconds": ...}
    memory                {"peak_rss_bytes": ..., "pss_bytes": ..., "private_bytes": ...}
    quit                  (ends, as the end of the input does)

Each answer is about what its own command did; the bench adds them up, so that nothing is lost when
either ends early. ``latency_ns`` and its like are a `Summary`; ``cpu_seconds`` is all CPU time of
the process so far. An error of the user's is answered with {"error": ...} and exit status 1.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from s4edge.arrays import Single
from s4edge.bench.latencies import Latencies
from s4edge.bench.machine.memory import memory_use, peak_rss_bytes
from s4edge.bench.pace import run_paced
from s4edge.errors import S4EdgeError, means_no_memory
from s4edge.runtime.backends import backend_of
from s4edge.runtime.description import GraphInfo
from s4edge.runtime.graph import open_graph
from s4edge.runtime.stream import Stream

# Enough different samples that no run sees a pattern, few enough to weigh nothing.
INPUT_SAMPLES = 256


class Worker:
    """One graph, loaded and streaming.

    Attributes:
        runtime_bytes: resident memory with the runtime imported and no graph loaded.
        memory_is_told: whether the kernel says how much that is.
        load_seconds: time to load the graph and to allocate the stream.
        first_run_us: time of the first run.
    """

    def __init__(self, path: Path, threads: int) -> None:
        # The bench's own records, before memory is looked at: a user's stream has none.
        self._latencies, self._jitter = Latencies(), Latencies()
        resident = memory_use().rss_bytes
        # Without the kernel's account there is the peak alone, which may be that of the parent.
        self.memory_is_told = resident is not None
        self.runtime_bytes = resident or peak_rss_bytes()
        start = time.perf_counter()
        graph = open_graph(path, threads)
        batch = graph.batch or 1
        self._stream = Stream(graph, batch)
        self.load_seconds = time.perf_counter() - start
        run = self._stream.samples_per_run
        self._samples = _noise(graph.info, run, batch)
        # Runs after which a sequence is over, where the model knows one length only.
        self._runs = None if graph.info.length is None else -(-graph.info.length // run)
        self._steps = 0
        start = time.perf_counter()
        self.step()
        self.first_run_us = (time.perf_counter() - start) * 1e6
        self._has_clock = self._stream.timed(self._samples[:1, 0][None]) is not None
        self._steps += self._has_clock

    def step(self) -> None:
        """Take in the next samples."""
        if self._runs is not None and self._steps % self._runs == 0:
            self._stream.reset()
        self._stream.step(self._samples[self._steps % len(self._samples)])
        self._steps += 1

    def run(self, seconds: float, limit_us: float | None = None) -> Mapping[str, object]:
        """Stream for ``seconds``, at least one sample.

        What is timed is what a user of `Stream.step` pays, nothing else.
        """
        samples, step, clock = self._samples, self._stream.step, time.perf_counter_ns
        latencies = self._latencies
        latencies.clear()
        limit = float("inf") if limit_us is None else limit_us * 1e3
        missed = 0
        if self._has_clock:
            return self._run_timed(seconds, limit)
        end = clock() + int(seconds * 1e9)
        while True:
            if self._runs is not None and self._steps % self._runs == 0:
                self._stream.reset()
            sample = samples[self._steps % len(samples)]
            start = clock()
            step(sample)
            now = clock()
            latencies.add(now - start)
            missed += now - start > limit
            self._steps += 1
            if now >= end:
                break
        return {"latency_ns": latencies.summary().to_json(), "missed": missed, "call_ns": None}

    def _run_timed(self, seconds: float, limit_ns: float) -> Mapping[str, object]:
        """The same where the model itself times its runs, as a C program would make them.

        What a call from here takes is measured beside, at every so manieth run.
        """
        clock, calls = time.perf_counter_ns, []
        missed = 0
        end = clock() + int(seconds * 1e9)
        while True:
            left = len(self._samples)
            if self._runs is not None:
                left = min(left, self._runs - self._steps % self._runs)
                if self._steps % self._runs == 0:
                    self._stream.reset()
            at = self._steps % len(self._samples)
            block = self._samples[at : at + left, 0][None]
            found = self._stream.timed(block)
            assert found is not None
            for nanoseconds in found.astype(np.int64).tolist():
                self._latencies.add(nanoseconds)
                missed += nanoseconds > limit_ns
            self._steps += block.shape[1]
            start = clock()
            self.step()
            now = clock()
            calls.append(now - start)
            if now >= end:
                break
        return {
            "latency_ns": self._latencies.summary().to_json(),
            "missed": missed,
            "call_ns": float(np.median(calls)),
        }

    def pace(self, runs: int, period_us: float, deadline_us: float) -> Mapping[str, object]:
        """Stream at the pace at which samples come."""
        self._latencies.clear()
        self._jitter.clear()
        missed = run_paced(
            self.step,
            round(period_us * 1e3),
            runs,
            round(deadline_us * 1e3),
            self._latencies,
            self._jitter,
        )
        return {
            "response_ns": self._latencies.summary().to_json(),
            "jitter_ns": self._jitter.summary().to_json(),
            "missed": missed,
        }

    def answer(self, command: str, numbers: Sequence[float] = ()) -> Mapping[str, object]:
        """Carry out one command.

        Raises:
            S4EdgeError: the command is unknown.
        """
        if command == "run":
            found = self.run(*numbers)
        elif command == "pace":
            found = self.pace(int(numbers[0]), *numbers[1:])
        elif command == "memory":
            use = memory_use()
            found = {
                "peak_rss_bytes": peak_rss_bytes(),
                "pss_bytes": use.pss_bytes,
                "private_bytes": use.private_bytes,
            }
        else:
            raise S4EdgeError(f"the benchmark's worker knows no command {command!r}")
        return {**found, "cpu_seconds": time.process_time()}


def _noise(info: GraphInfo, run: int, batch: int) -> Single:
    """Samples as the graph takes them, (runs, batch, d_input) or (runs, batch, T, d_input).

    Made without numpy.random, which takes longer to import and more memory than many a graph.
    """
    between = (run,) if info.mode == "chunk" else ()
    shape = (max(1, INPUT_SAMPLES // run), batch, *between, info.d_input)
    # Fractions of large sines are as good as random, from 0 to 1.
    uniform = np.sin(12.9898 * np.arange(1, 1 + math.prod(shape))) * 43758.5453 % 1
    values = 3.4 * uniform - 1.7 if info.tokens is None else np.floor(info.tokens * uniform)
    return values.reshape(shape).astype(np.float32)


def main(started: float | None = None) -> int:
    """Obey standard input until it ends; give the exit status.

    Args:
        started: what ``time.perf_counter`` said before anything of s4edge was imported.
    """
    parser = argparse.ArgumentParser(prog="python -m s4edge.bench.worker")
    parser.add_argument("graph", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    try:
        backend_of(arguments.graph)  # its imports are no part of loading the graph
        imported = None if started is None else time.perf_counter() - started
        worker = Worker(arguments.graph, arguments.threads)
        _say(
            {
                "ready": True,
                "runtime_bytes": worker.runtime_bytes,
                "memory_is_told": worker.memory_is_told,
                "import_seconds": imported,
                "load_seconds": worker.load_seconds,
                "first_run_us": worker.first_run_us,
            }
        )
        for line in sys.stdin:
            command, *numbers = line.split()
            if command == "quit":
                break
            _say(worker.answer(command, [float(number) for number in numbers]))
    except S4EdgeError as error:
        _say({"error": str(error)})
        return 1
    except Exception as error:  # whatever its runtime raises
        if not means_no_memory(error):
            raise
        _say(
            {
                "error": f"not enough memory to run {arguments.graph}; close other programs or "
                "measure a smaller graph"
            }
        )
        return 1
    return 0


def _say(answer: Mapping[str, object]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    sys.exit(main())
