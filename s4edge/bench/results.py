"""What the benchmark of graphs found."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypedDict

from s4edge.bench.intervals import Ratio
from s4edge.bench.quantities import Amount, Count, Number
from s4edge.json_codec import encode

FORMAT = 1
# Significant digits of numbers in a file.
_DIGITS = 7


class Latencies(TypedDict):
    """Over all runs, in microseconds."""

    min: Amount
    p50: Amount
    p90: Amount
    p99: Amount
    p999: Amount
    max: Amount
    mean: Amount


class Spread(TypedDict):
    """Over runs at pace, in microseconds."""

    p50: Amount
    p99: Amount
    max: Amount


class Clock(TypedDict):
    """In MHz."""

    min: Amount
    max: Amount


class Temperature(TypedDict):
    """In degrees Celsius."""

    start: Number
    max: Number


class Device(TypedDict):
    """A machine and its software: see `s4edge.bench.describe_device`."""

    cpu: str
    architecture: str
    cores: Count
    memory_bytes: Count | None
    os: str
    python: str
    numpy: str
    onnxruntime: str | None
    emulated: bool


@dataclasses.dataclass(frozen=True)
class ColdStart:
    """From nothing to the first answer, the file being in the system's cache; medians of starts.

    Attributes:
        first_answer_seconds: from the start of the process to its first answer.
        import_seconds: of that, importing numpy, s4edge and what runs the graph.
        load_seconds: of that, loading the graph and making the stream.
        first_run_us: the first run.
    """

    first_answer_seconds: Amount
    import_seconds: Amount
    load_seconds: Amount
    first_run_us: Amount


@dataclasses.dataclass(frozen=True)
class Memory:
    """Memory of a process that streams this graph and nothing else.

    Attributes:
        peak_rss_bytes: peak of the resident memory; the sum of the next three.
        runtime_bytes: before the graph was loaded: Python, numpy, s4edge and what runs the graph.
        model_bytes: what loading and running the graph added, less the state.
        state_bytes: one stream's packed state.
        pss_bytes: after some runs, with the pages that other processes use, too, divided among
            them, this bench being one of these; None where the kernel does not tell.
        private_bytes: after some runs, what this process alone had.
    """

    peak_rss_bytes: Count
    runtime_bytes: Count
    model_bytes: Count
    state_bytes: Count
    pss_bytes: Count | None
    private_bytes: Count | None


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

    TOLD = ("missed_fraction",)

    us: Amount
    period_us: Amount | None
    runs: Count
    missed: Count
    response_us: Spread
    jitter_us: Spread | None

    @property
    def missed_fraction(self) -> Amount:
        """Of all runs that were judged."""
        return self.missed / self.runs


@dataclasses.dataclass(frozen=True)
class Histogram:
    """Runs by latency.

    Attributes:
        edges_us: µs, bars + 1 of them, each 5 % above the one before.
        counts: runs in each bar.
    """

    edges_us: Sequence[Amount]
    counts: Sequence[Count]


@dataclasses.dataclass(frozen=True)
class Round:
    """One turn of one graph.

    Attributes:
        us_per_sample: its median latency divided by the samples of a run; the mean one where some
            runs compute layers that others do not.
        runs: runs in it.
    """

    us_per_sample: Amount
    runs: Count


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
        us_per_sample: the median latency divided by ``samples_per_run``; the mean one where some
            runs compute layers that others do not.
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
        python_us: what a call from Python adds to a run that is timed within the model's library;
            None where runs are timed in Python.
    """

    TOLD = ("peak_rss_bytes", "baseline_rss_bytes", "load_seconds")

    model: str
    mode: str
    samples_per_run: Count
    threads: Count
    latency_us: Latencies
    us_per_sample: Amount
    samples_per_second: Amount
    runs: Count
    histogram: Histogram
    rounds: Sequence[Round]
    ratio: Ratio | None
    rate_hz: Amount | None
    real_time_factor: Amount | None
    deadline: Deadline | None
    cold_start: ColdStart
    memory: Memory
    model_bytes: Count
    state_bytes: Count
    state_size: Amount | None
    energy_uj_per_sample: Amount | None
    python_us: Amount | None = None

    @property
    def peak_rss_bytes(self) -> Count:
        """Peak resident memory of a process that streams this graph and nothing else."""
        return self.memory.peak_rss_bytes

    @property
    def baseline_rss_bytes(self) -> Count:
        """Resident memory of that process before it loaded the graph."""
        return self.memory.runtime_bytes

    @property
    def load_seconds(self) -> Amount:
        """Time to load the graph."""
        return self.cold_start.load_seconds


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

    seconds: Amount
    model: str
    us_per_sample: Amount
    temperature_c: Number | None
    clock_mhz: Amount | None
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

    # What older files lack.
    OPTIONAL = ("busy_others_same_cores", "stopped_by_limit")

    governor: str | None = None
    clock_mhz: Clock | None = None
    temperature_c: Temperature | None = None
    throttled: bool | None = None
    throttle_reasons: Sequence[str] = ()
    busy_others: Amount | None = None
    busy_others_same_cores: Amount | None = None
    stopped_by_limit: Count | None = None


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

    OPTIONAL = ("pinned_to",)

    device: Device
    runtime: str
    threads: Count
    started: str
    results: Sequence[GraphResult]
    conditions: Conditions = Conditions()
    timeline: Sequence[Turn] = ()
    warnings: Sequence[str] = ()
    interrupted: bool = False
    pinned_to: Sequence[Count] | None = None

    @property
    def rate_hz(self) -> float | None:
        """The samples per second of all streams, None where they differ or nobody says."""
        rates = {result.rate_hz for result in self.results}
        return rates.pop() if len(rates) == 1 else None

    def to_json(self) -> dict[str, Any]:
        """Give the answer of ``s4edge bench --json``: see `s4edge.bench.file`."""
        said = encode(self, digits=_DIGITS)
        return {"format": FORMAT, **said, "rate_hz": encode(self.rate_hz, digits=_DIGITS)}
