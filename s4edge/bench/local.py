"""Latency and memory of graphs, measured side by side on this machine.

Every graph runs in processes of its own, pinned to a core while the bench is on another one. After
the starts and a warm-up until medians agree, the graphs take turns in many short rounds, to and
fro, so that whatever happens to the machine happens to all of them and ratios hold.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from s4edge.bench.conditions import machine_warnings, model_warnings
from s4edge.bench.intervals import paired_ratio
from s4edge.bench.latencies import Summary
from s4edge.bench.machine.device import describe_device
from s4edge.bench.measuring import Measured, Measuring
from s4edge.bench.results import (
    BenchResult,
    ColdStart,
    Deadline,
    GraphResult,
    Histogram,
    Latencies,
    Memory,
    Spread,
)
from s4edge.bench.schedule import LEAST_PACED_RUNS
from s4edge.errors import S4EdgeError
from s4edge.runtime.description import GraphInfo
from s4edge.runtime.graph import open_graph


class BenchFailedError(S4EdgeError):
    """Measuring failed on the way.

    Attributes:
        result: what was found before.
    """

    def __init__(self, message: str, result: BenchResult) -> None:
        super().__init__(message)
        self.result = result


def bench(
    paths: Sequence[Path | str],
    threads: int = 1,
    duration: float = 3.0,
    rate: float | None = None,
    deadline_us: float | None = None,
    progress: Callable[[float], None] | None = None,
) -> BenchResult:
    """Measure step and chunk graphs, each in processes of its own, one sequence at a time.

    Only one of the processes works at any time; they take turns. Meanwhile this process keeps off
    their cores where there are others. Memory for what is found does not grow with ``duration``.

    Args:
        paths: the graphs.
        threads: threads that one run may use, each on a core of its own where there are enough.
        duration: seconds of measuring per graph; starts and warming up come on top.
        rate: samples per second of the stream, for the real-time factor and the pace; None for
            what each graph says itself.
        deadline_us: µs that a run may take. With a rate a third of ``duration`` goes to runs
            that are due when their samples would be there, and they are judged; without one all
            runs are.
        progress: called with the fraction done, 0 to 1.

    Returns:
        What was found; after Ctrl-C, what was found so far, with ``interrupted``.

    Raises:
        S4EdgeError: no graph, a bad one, or a bad number; or a process failed.
        BenchFailedError: a process failed later, and something was found before.
        KeyboardInterrupt: Ctrl-C came before anything was found.
    """
    if not paths:
        raise S4EdgeError("no graph to measure; export one with: s4edge export MODEL --onnx")
    if threads < 1:
        raise S4EdgeError(f"threads must be at least 1, not {threads}")
    _check_positive("duration", duration, "seconds")
    if rate is not None:
        _check_positive("rate", rate, "samples per second")
    if deadline_us is not None:
        _check_positive("deadline", deadline_us, "microseconds")
    infos, runtimes = zip(*map(_streaming, paths))
    device = describe_device()
    started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    measuring = Measuring(infos, threads, duration, rate, deadline_us, progress)

    def result(stopped: str | None = None) -> BenchResult:
        """What was found so far; ``stopped`` says why there is no more."""
        found = [model for model in measuring.models if model.rounds]
        results = [
            _result(model, found[0], threads, deadline_us, first=index == 0)
            for index, model in enumerate(found)
        ]
        conditions = measuring.watch.conditions()
        warnings = machine_warnings(
            device, conditions, measuring.watch.since_boot, threads, measuring.cores
        )
        for model, row in zip(found, results):
            warnings += model_warnings(row, model.steady, model.grown_bytes)
            if model.rate is not None and deadline_us is not None and row.deadline is None:
                warnings.append(_too_slow_a_pace(model, model.rate, duration))
        if not all(model.starts[0]["memory_is_told"] for model in found):
            warnings.append(
                "the system does not tell the memory of a process (no /proc): what is shown may be "
                "too much, and its parts are not known"
            )
        if stopped is not None:
            warnings.append(f"these are the results so far: {stopped}")
        return BenchResult(
            device=device,
            runtime=", ".join(dict.fromkeys(runtimes)),
            threads=threads,
            started=started,
            results=results,
            conditions=conditions,
            timeline=measuring.watch.timeline,
            warnings=warnings,
            interrupted=stopped is not None,
            pinned_to=measuring.cores,
        )

    try:
        measuring.run()
    except KeyboardInterrupt:
        if not any(model.rounds for model in measuring.models):
            raise
        return result("it was interrupted")
    except S4EdgeError as error:
        if not any(model.rounds for model in measuring.models):
            raise
        raise BenchFailedError(str(error), result(str(error))) from error
    return result()


def _check_positive(name: str, value: float, unit: str) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise S4EdgeError(f"{name} must be more than 0 {unit}, not {value}")


def _streaming(path: Path | str) -> tuple[GraphInfo, str]:
    """What a model says about itself, and what runs it."""
    graph = open_graph(path)
    info = graph.info
    if not info.streams:
        raise S4EdgeError(
            f"{info.path} takes whole sequences; bench measures step and chunk graphs. Export "
            "one with: s4edge export MODEL --onnx"
        )
    return info, graph.runtime


def _result(
    model: Measured,
    other: Measured,
    threads: int,
    deadline_us: float | None,
    first: bool,
) -> GraphResult:
    info, found, per_run = model.info, model.latencies, model.per_run
    samples = found.runs * per_run
    latency_us: Latencies = {
        "min": found.least_ns / 1e3,
        "p50": found.percentile_us(50),
        "p90": found.percentile_us(90),
        "p99": found.percentile_us(99),
        "p999": found.percentile_us(99.9),
        "max": found.greatest_ns / 1e3,
        "mean": found.mean_us,
    }
    us_per_sample = model.us_per_sample(found)
    times, firsts = ([each.us_per_sample for each in one.rounds] for one in (model, other))
    return GraphResult(
        model=str(info.path),
        mode=info.mode,
        samples_per_run=per_run,
        threads=threads,
        latency_us=latency_us,
        us_per_sample=us_per_sample,
        samples_per_second=samples / found.total_ns * 1e9,
        runs=found.runs,
        histogram=Histogram(*found.bars()),
        rounds=list(model.rounds),
        ratio=None if first else paired_ratio(times, firsts),
        rate_hz=model.rate,
        real_time_factor=None if model.rate is None else us_per_sample * model.rate / 1e6,
        deadline=None if deadline_us is None else _deadline(model, deadline_us),
        cold_start=_cold_start(model),
        memory=_memory(model),
        model_bytes=info.model_bytes,
        state_bytes=info.state_bytes,
        state_size=info.state_size,
        energy_uj_per_sample=None if model.energy_uj is None else model.energy_uj / samples,
        python_us=_python_us(model, latency_us["p50"]),
    )


def _python_us(model: Measured, run_us: float) -> float | None:
    if not model.call_ns:
        return None
    return max(float(np.median(model.call_ns)) / 1e3 - run_us, 0.0)


def _deadline(model: Measured, us: float) -> Deadline | None:
    if model.rate is None:
        return Deadline(
            us, None, model.latencies.runs, model.missed, _spread(model.latencies), None
        )
    if model.pace is None or not model.response.runs:
        return None
    return Deadline(
        us=us,
        period_us=model.pace.period_us,
        runs=model.response.runs,
        missed=model.paced_missed,
        response_us=_spread(model.response),
        jitter_us=_spread(model.jitter) if model.jitter.runs else None,
    )


def _spread(found: Summary) -> Spread:
    return {
        "p50": found.percentile_us(50),
        "p99": found.percentile_us(99),
        "max": found.greatest_ns / 1e3,
    }


def _cold_start(model: Measured) -> ColdStart:
    return ColdStart(
        **{
            key: float(np.median([start[key] for start in model.starts]))
            for key in ("first_answer_seconds", "import_seconds", "load_seconds", "first_run_us")
        }
    )


def _memory(model: Measured) -> Memory:
    runtime, peak = model.starts[0]["runtime_bytes"], model.memory["peak_rss_bytes"]
    return Memory(
        peak_rss_bytes=peak,
        runtime_bytes=runtime,
        model_bytes=max(peak - runtime - model.info.state_bytes, 0),
        state_bytes=model.info.state_bytes,
        pss_bytes=model.memory["pss_bytes"],
        private_bytes=model.memory["private_bytes"],
    )


def _too_slow_a_pace(model: Measured, rate: float, duration: float) -> str:
    needed = 3 * (LEAST_PACED_RUNS + 1) * max(model.per_run / rate, model.run_us / 1e6)
    return (
        f"{model.info.path} has no answer to --deadline: a run is due every "
        f"{model.per_run / rate:.3g} s, too seldom for {duration:g} s; measure with --duration "
        f"{math.ceil(needed)}"
    )
