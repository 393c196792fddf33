"""The bench's run: starts, warm-up and rounds of every graph, with what was found so far."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from s4edge.bench.conditions import MachineWatch
from s4edge.bench.latencies import Summary
from s4edge.bench.machine.energy import find_meter
from s4edge.bench.machine.pinning import choose_cores, out_of_the_way
from s4edge.bench.machine.vcgencmd import find_vcgencmd
from s4edge.bench.results import Round
from s4edge.bench.schedule import Pace, Schedule, pace, schedule
from s4edge.bench.worker_process import WorkerProcess
from s4edge.runtime.description import GraphInfo

# Processes that measure a model, one after the other: where one happens to lie in memory makes it
# some per cent faster or slower than the next.
PROCESSES = 3
# With a start that takes this long, in seconds, there is one only.
SLOW_START = 5.0
# Warm-up: medians of so many turns in a row have to be this close, after at most so many turns.
STEADY_TURNS, STEADY, MOST_TURNS = 3, 0.05, 12
# What a start is taken to take, for the progress bar.
_START_SECONDS = 0.5


class Measured:
    """What was found out about one graph so far.

    Attributes:
        info: the graph.
        rate: samples per second of its stream, None where nobody says.
        starts: first answers of its processes.
        memory: what the process said that ran with no other model's beside it.
        grown_bytes: how much more memory than that one the others took after their last run.
        steady: whether it became steady in every warm-up.
        run_us: its median in the latest turn of warming up.
        latencies: of all runs back to back.
        rounds: their turns.
        missed: those of them that took longer than a deadline.
        response: of all runs at pace, from due to over.
        jitter: of those that were waited for, from due to begun.
        paced_missed: runs at pace that were over after the deadline.
        pace: how those are placed; None without any.
        call_ns: what a call from Python takes, of each turn that tells.
        energy_uj: energy of the turns back to back, None where nothing counts it.
    """

    def __init__(self, info: GraphInfo, rate: float | None) -> None:
        self.info = info
        self.rate = info.rate if rate is None else rate
        self.starts: list[dict[str, Any]] = []
        self.memory: dict[str, Any] = {}
        self.grown_bytes = 0
        self.steady = True
        self.run_us = 0.0
        self.latencies = Summary()
        self.rounds: list[Round] = []
        self.missed = 0
        self.response, self.jitter = Summary(), Summary()
        self.paced_missed = 0
        self.pace: Pace | None = None
        self.call_ns: list[float] = []
        self.energy_uj: float | None = 0.0

    @property
    def per_run(self) -> int:
        """Samples of a run."""
        return self.info.samples_per_run or 1

    def us_per_sample(self, found: Summary) -> float:
        """Of the median run; of all runs where some compute layers that others do not."""
        alike = self.per_run % self.info.period == 0
        return (found.percentile_us(50) if alike else found.mean_us) / self.per_run


Pair = tuple[Measured, WorkerProcess]


class Measuring:
    """One run of the bench. What `run` found before it failed or was interrupted is kept.

    Attributes:
        models: what was found out about each graph.
        cores: those that the graphs run on, None where processes cannot be pinned.
        watch: what was seen of the machine meanwhile.
    """

    def __init__(
        self,
        infos: Sequence[GraphInfo],
        threads: int,
        duration: float,
        rate: float | None,
        deadline_us: float | None,
        progress: Callable[[float], None] | None,
        root: Path = Path("/"),
    ) -> None:
        self.models = [Measured(info, rate) for info in infos]
        self.cores = choose_cores(threads, root)
        vcgencmd = find_vcgencmd()
        self.watch = MachineWatch(self.cores, root, vcgencmd)
        self._meter = find_meter(root, vcgencmd)
        self._threads, self._duration = threads, duration
        self._deadline_us = deadline_us
        self._warm_seconds = min(max(0.05 * duration, 0.02), 0.25)
        self._tell = progress
        # In seconds that things will take, roughly.
        self._done = 0.0
        self._whole = len(infos) * (
            (PROCESSES + 1) * (_START_SECONDS + STEADY_TURNS * self._warm_seconds) + duration
        )

    def run(self) -> None:
        """Measure everything.

        Raises:
            S4EdgeError: a process failed.
        """
        with out_of_the_way(self.cores):
            for model in self.models:
                self._look_at_memory(model)
            plan = None
            processes = self._processes()
            for number in range(processes):
                with contextlib.ExitStack() as stack:
                    # One after another, so that none is slowed down by another's start.
                    pairs = [(model, self._start(model, stack)) for model in self.models]
                    self._warm_up(pairs)
                    plan = plan or self._plan()
                    for turn in range(
                        plan.rounds * number // processes, plan.rounds * (number + 1) // processes
                    ):
                        self._round(pairs, turn, plan)
                    for model, worker in pairs:
                        peak = worker.ask("memory")["peak_rss_bytes"]
                        grown = peak - model.memory["peak_rss_bytes"]
                        model.grown_bytes = max(model.grown_bytes, grown)
        self._progress(self._whole)

    def _start(self, model: Measured, stack: contextlib.ExitStack) -> WorkerProcess:
        worker = stack.enter_context(WorkerProcess(model.info, self._threads, self.cores))
        model.starts.append(worker.started)
        self._progress(_START_SECONDS)
        return worker

    def _look_at_memory(self, model: Measured) -> None:
        """Run a process beside which no other model's is: it would share pages with it."""
        with contextlib.ExitStack() as stack:
            worker = self._start(model, stack)
            for _ in range(STEADY_TURNS):
                worker.ask(f"run {self._warm_seconds}")
                self._progress(self._warm_seconds)
            model.memory = worker.ask("memory")

    def _processes(self) -> int:
        starts = [start["first_answer_seconds"] for model in self.models for start in model.starts]
        return 1 if max(starts) > SLOW_START else PROCESSES

    def _warm_up(self, pairs: Sequence[Pair]) -> None:
        medians: list[list[float]] = [[] for _ in pairs]
        for _ in range(MOST_TURNS):
            for (_, worker), found in zip(pairs, medians):
                answer = worker.ask(f"run {self._warm_seconds}")
                found.append(Summary.from_json(answer["latency_ns"]).percentile_us(50))
            if all(is_steady(found) for found in medians):
                break
        for (model, _), found in zip(pairs, medians):
            model.steady = model.steady and is_steady(found)
            model.run_us = found[-1]
            self._progress(STEADY_TURNS * self._warm_seconds)

    def _plan(self) -> Schedule:
        paced = [model for model in self.models if model.rate and self._deadline_us is not None]
        plan = schedule(self._duration, max(model.run_us for model in self.models), bool(paced))
        for model in paced:
            period_us = model.per_run / (model.rate or 1.0) * 1e6
            model.pace = pace(self._duration, period_us, model.run_us, plan.rounds)
        return plan

    def _round(self, pairs: Sequence[Pair], turn: int, plan: Schedule) -> None:
        self.watch.begin(sum(worker.cpu_seconds for _, worker in pairs))
        # To and fro, so that a steady drift of the machine cancels out.
        for model, worker in pairs if turn % 2 == 0 else list(reversed(pairs)):
            self._turn(model, worker, plan.turn_seconds)
            if model.pace is not None and model.pace.is_due(turn, plan.rounds):
                self._paced_turn(model, worker, model.pace)
            self._progress(self._duration / plan.rounds)
        self.watch.end(sum(worker.cpu_seconds for _, worker in pairs))

    def _turn(self, model: Measured, worker: WorkerProcess, seconds: float) -> None:
        # With a rate, the runs at pace are judged instead.
        limit = "" if self._deadline_us is None or model.rate is not None else self._deadline_us
        self._meter.begin()
        worker.tell(f"run {seconds} {limit}")
        self._meter.during()
        answer = worker.read()
        energy = self._meter.end()
        found = Summary.from_json(answer["latency_ns"])
        us_per_sample = model.us_per_sample(found)
        if model.energy_uj is not None:
            model.energy_uj = None if energy is None else model.energy_uj + energy
        model.missed += answer["missed"]
        if answer["call_ns"] is not None:
            model.call_ns.append(answer["call_ns"])
        model.latencies = model.latencies.plus(found)
        model.rounds.append(Round(us_per_sample, found.runs))
        self.watch.turn(str(model.info.path), us_per_sample)

    def _paced_turn(self, model: Measured, worker: WorkerProcess, paced: Pace) -> None:
        answer = worker.ask(f"pace {paced.runs} {paced.period_us} {self._deadline_us}")
        model.paced_missed += answer["missed"]
        model.response = model.response.plus(Summary.from_json(answer["response_ns"]))
        model.jitter = model.jitter.plus(Summary.from_json(answer["jitter_ns"]))

    def _progress(self, seconds: float) -> None:
        self._done = min(self._done + seconds, self._whole)
        if self._tell is not None:
            self._tell(self._done / self._whole)


def is_steady(medians: Sequence[float]) -> bool:
    """Whether the latest medians of warming up agree."""
    latest = medians[-STEADY_TURNS:]
    return len(latest) == STEADY_TURNS and max(latest) <= (1 + STEADY) * min(latest)
