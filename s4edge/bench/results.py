"""What the benchmark of graphs found."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from s4edge.bench.file import FORMAT
from s4edge.bench.intervals import Ratio


@dataclasses.dataclass(frozen=True)
class ColdStart:
    """From nothing to the first answer, the file being in the system's cache; medians of starts.

    Attributes:
        first_answer_seconds: from the start of the process to its first answer.
        import_seconds: of that, importing numpy, onnxruntime and s4edge.
        load_seconds: of that, loading the graph and making the stream.
        first_run_us: the first run.
    """

    first_answer_seconds: float
    import_seconds: float
    load_seconds: float
    first_run_us: float


@dataclasses.dataclass(frozen=True)
class Memory:
    """Memory of a process that streams this graph and nothing else.

    Attributes:
        peak_rss_bytes: peak of the resident memory; the sum of the next three.
        runtime_bytes: before the graph was loaded: Python, numpy, onnxruntime and s4edge.
        model_bytes: what loading and running the graph added, less the state.
        state_bytes: one stream's packed state.
        pss_bytes: after some runs, with the pages that other processes use, too, divided among
            them, this bench being one of these; None where the kernel does not tell.
        private_bytes: after some runs, what this process alone had.
    """

    peak_rss_bytes: int
    runtime_bytes: int
    model_bytes: int
    state_bytes: int
    pss_bytes: int | None
    private_bytes: int | None


@dataclasses.dataclass(frozen=True)
class Deadline:
    """How often a run came too late.

    Attributes:
        us: µs that a run may take from when it is due.
        period_us: µs from one due time to the next; None for runs back to back, each due when
            the one before is over.
        runs: runs that were judged.
        missed: those that were over later.
        response_us: ``p50``, ``p99`` and ``max`` of the time from due to over.
        jitter_us: the same of how much later than due a run began that was waited for; None for
            runs back to back, and where all were late and none was waited for.
    """

    us: float
    period_us: float | None
    runs: int
    missed: int
    response_us: Mapping[str, float]
    jitter_us: Mapping[str, float] | None

    def to_json(self) -> dict[str, Any]:
        """Give the attributes as one JSON object, with ``missed_fraction``."""
        return {**dataclasses.asdict(self), "missed_fraction": self.missed / self.runs}


@dataclasses.dataclass(frozen=True)
class Histogram:
    """Runs by latency.

    Attributes:
        edges_us: µs, bars + 1 of them, each 5 % above the one before.
        counts: runs in each bar.
    """

    edges_us: Sequence[float]
    counts: Sequence[int]


@dataclasses.dataclass(frozen=True)
class Round:
    """One turn of one graph.

    Attributes:
        us_per_sample: its median latency divided by the samples of a run.
        runs: runs in it.
    """

    us_per_sample: float
    runs: int


@dataclasses.dataclass(frozen=True)
class GraphResult:
    """What one graph costs.

    Attributes:
        model: the graph's path, as it was given.
        mode: ``"step"`` or ``"chunk"``.
        samples_per_run: samples that one run consumes.
        threads: threads that one run may use.
        latency_us: microseconds per run: ``min``, ``p50``, ``p90``, ``p99``, ``p999``, ``max``,
            ``mean`` over all rounds. Percentiles are right to 0.25 %, the others exact.
        us_per_sample: the median latency divided by ``samples_per_run``.
        samples_per_second: all samples over all measured time, so that, unlike
            ``us_per_sample``, it feels the slow runs too.
        runs: runs measured back to back.
        histogram: of their latencies.
        rounds: what each turn found, in order.
        ratio: time per sample over that of the first graph; None for the first itself.
        rate_hz: samples per second of the stream, as asked for or as the graph says; None where
            nobody says.
        real_time_factor: share of real time that streaming at that rate takes.
        deadline: None without one.
        cold_start: how long a start takes.
        memory: what it takes.
        model_bytes: size of the graph's file.
        state_bytes: size of one stream's packed state.
        state_size: state size of the model's layers, None where they differ or have none.
        energy_uj_per_sample: energy of the whole processor per sample in µJ, None where nothing
            counts it.
    """

    model: str
    mode: str
    samples_per_run: int
    threads: int
    latency_us: Mapping[str, float]
    us_per_sample: float
    samples_per_second: float
    runs: int
    histogram: Histogram
    rounds: Sequence[Round]
    ratio: Ratio | None
    rate_hz: float | None
    real_time_factor: float | None
    deadline: Deadline | None
    cold_start: ColdStart
    memory: Memory
    model_bytes: int
    state_bytes: int
    state_size: float | None
    energy_uj_per_sample: float | None

    @property
    def peak_rss_bytes(self) -> int:
        """Peak resident memory of a process that streams this graph and nothing else."""
        return self.memory.peak_rss_bytes

    @property
    def baseline_rss_bytes(self) -> int:
        """Resident memory of that process before it loaded the graph."""
        return self.memory.runtime_bytes

    @property
    def load_seconds(self) -> float:
        """Time to load the graph."""
        return self.cold_start.load_seconds

    def to_json(self) -> dict[str, Any]:
        """Give the attributes and properties as one JSON object."""
        return {
            **dataclasses.asdict(self),
            "deadline": None if self.deadline is None else self.deadline.to_json(),
            "peak_rss_bytes": self.peak_rss_bytes,
            "baseline_rss_bytes": self.baseline_rss_bytes,
            "load_seconds": self.load_seconds,
        }


@dataclasses.dataclass(frozen=True)
class Turn:
    """A moment of the measurement, right after one graph's turn.

    Attributes:
        seconds: since the first turn began.
        model: whose turn it was.
        us_per_sample: its median in that turn.
        temperature_c: the processor's, None where nothing tells.
        clock_mhz: of the cores that measured.
        throttled: whether something held the processor back.
    """

    seconds: float
    model: str
    us_per_sample: float
    temperature_c: float | None
    clock_mhz: float | None
    throttled: bool | None


@dataclasses.dataclass(frozen=True)
class Conditions:
    """The machine while it measured; None for what nothing tells.

    Attributes:
        governor: what sets the clock.
        clock_mhz: ``min`` and ``max`` of the cores that measured.
        temperature_c: ``start`` and ``max`` of the processor.
        throttled: whether something held the processor back at any time.
        throttle_reasons: what did.
        busy_others: share of all cores' time that others used, 0 to 1.
        busy_others_same_cores: the same of the cores that measured.
        stopped_by_limit: how often a container's CPU limit stopped the bench.
    """

    governor: str | None = None
    clock_mhz: Mapping[str, float] | None = None
    temperature_c: Mapping[str, float] | None = None
    throttled: bool | None = None
    throttle_reasons: Sequence[str] = ()
    busy_others: float | None = None
    busy_others_same_cores: float | None = None
    stopped_by_limit: int | None = None


@dataclasses.dataclass(frozen=True)
class BenchResult:
    """What the benchmark of one or several graphs found.

    Attributes:
        device: the machine, as `s4edge.bench.describe_device` gives it.
        runtime: what ran the graphs, such as ``"onnxruntime 1.20.1"``.
        threads: threads that one run might use.
        started: when, in UTC, as ISO 8601 has it; by the machine's clock, which may be wrong.
        results: one for each graph, in the order given; where ``interrupted``, of those that
            had a turn.
        conditions: the machine meanwhile.
        timeline: every turn.
        warnings: a line each: what makes these figures worth less, and what to do.
        interrupted: whether it was stopped early.
        pinned_to: cores that the graphs ran on, None where they were free to move.
    """

    device: Mapping[str, str | int | None]
    runtime: str
    threads: int
    started: str
    results: Sequence[GraphResult]
    conditions: Conditions = dataclasses.field(default_factory=Conditions)
    timeline: Sequence[Turn] = ()
    warnings: Sequence[str] = ()
    interrupted: bool = False
    pinned_to: Sequence[int] | None = None

    @property
    def rate_hz(self) -> float | None:
        """The samples per second of all streams, None where they differ or nobody says."""
        rates = {result.rate_hz for result in self.results}
        return rates.pop() if len(rates) == 1 else None

    def to_json(self) -> dict[str, Any]:
        """Give the answer of ``s4edge bench --json``: see `s4edge.bench.file`."""
        answer: dict[str, Any] = _plain(
            {
                "format": FORMAT,
                **dataclasses.asdict(self),
                "rate_hz": self.rate_hz,
                "results": [result.to_json() for result in self.results],
            }
        )
        return answer


def _plain(value: Any) -> Any:
    """Lists and numbers as JSON has them: seven digits, and null for what is no number."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value
