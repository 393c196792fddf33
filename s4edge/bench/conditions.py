"""The machine while it measures, and what of it makes figures worth less."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from s4edge.bench.machine.load import CpuTimes, Others, cpu_times, stops_by_limit
from s4edge.bench.machine.sensors import UNDER_VOLTAGE, Reading, Sensors
from s4edge.bench.results import Conditions, GraphResult, Turn

# Others may use this share of the CPU time before figures are doubted.
BUSY = 0.05
# A model may get this much slower or faster from the first third of its turns to the last.
DRIFT = 0.1
# Fewer runs than this make the 99th percentile the slowest of them.
FEW_RUNS = 100
# Memory that the bench's own bookkeeping may add to a process.
GROWN_BYTES = 5_000_000
SAVING = ("powersave", "ondemand", "conservative", "schedutil", "interactive")
PERFORMANCE = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"


class MachineWatch:
    """Looks at the machine at the beginning, after every turn and at the end.

    Attributes:
        timeline: what it saw after each turn.
    """

    def __init__(
        self,
        cores: Sequence[int] | None,
        root: Path = Path("/"),
        vcgencmd: str | None = None,
    ) -> None:
        self.timeline: list[Turn] = []
        self._root, self._cores = root, cores
        self._sensors = Sensors(cores, root, vcgencmd)
        first = self._sensors.read()
        self._start_c = first.temperature_c
        self._readings_c = [first.temperature_c]
        self._throttled = first.throttled
        self._reasons = list(first.reasons)
        self._governor = self._sensors.governor()
        self._began: float | None = None
        self._all, self._same = Others(), Others()
        self._stops: int | None = None
        self._before: tuple[CpuTimes | None, float, float] = (None, 0.0, 0.0)

    def begin(self, workers_seconds: float) -> None:
        """Turns begin; workers have used so much CPU time."""
        if self._began is None:
            self._began = time.monotonic()
            self._stops = stops_by_limit(self._root)
        self._before = (cpu_times(self._root), _own_seconds(), workers_seconds)

    def end(self, workers_seconds: float) -> None:
        """Turns are over, for now or for good."""
        before, own, workers = self._before
        after = cpu_times(self._root)
        by_workers = workers_seconds - workers
        by_all = by_workers + _own_seconds() - own
        self._all = self._all.plus(before, after, by_all)
        if self._cores is not None:
            # The bench itself is elsewhere, unless there is no other core.
            alone = before is not None and set(before.cores) == set(self._cores)
            self._same = self._same.plus(
                before, after, by_all if alone else by_workers, self._cores
            )
        self._before = (None, 0.0, 0.0)

    def turn(self, model: str, us_per_sample: float) -> None:
        """A turn is over."""
        reading: Reading = self._sensors.read()
        self._readings_c.append(reading.temperature_c)
        if reading.throttled is not None:
            self._throttled = bool(self._throttled) or reading.throttled
        self._reasons += [each for each in reading.reasons if each not in self._reasons]
        self.timeline.append(
            Turn(
                time.monotonic() - (self._began or 0.0),
                model,
                us_per_sample,
                reading.temperature_c,
                reading.clock_mhz,
                reading.throttled,
            )
        )

    def conditions(self) -> Conditions:
        """Sum up."""
        clocks = [turn.clock_mhz for turn in self.timeline if turn.clock_mhz is not None]
        warm = [value for value in self._readings_c if value is not None]
        stops = stops_by_limit(self._root)
        start = self._start_c if self._start_c is not None else (warm[0] if warm else None)
        return Conditions(
            governor=self._governor,
            clock_mhz={"min": min(clocks), "max": max(clocks)} if clocks else None,
            temperature_c=None if start is None else {"start": start, "max": max(warm)},
            throttled=self._throttled,
            throttle_reasons=list(self._reasons),
            busy_others=self._all.share,
            busy_others_same_cores=self._same.share,
            stopped_by_limit=(
                None if stops is None or self._stops is None else stops - self._stops
            ),
        )

    @property
    def since_boot(self) -> Sequence[str]:
        """What held the processor back before."""
        return self._sensors.since_boot


def machine_warnings(
    device: Mapping[str, Any],
    conditions: Conditions,
    since_boot: Sequence[str],
    threads: int,
    cores: Sequence[int] | None,
) -> list[str]:
    """Say what of the machine makes figures worth less, and what to do, a line each."""
    found = []
    if device.get("emulated"):
        found.append(
            "an emulator runs this: times and memory are its own and say nothing about a board's "
            "speed; measure on the board"
        )
    reasons = conditions.throttle_reasons
    if reasons:
        cure = "cool it"
        if UNDER_VOLTAGE in reasons:
            cure = "use a stronger power supply and a shorter cable"
        found.append(
            f"the processor was held back while measuring ({', '.join(reasons)}); {cure} and "
            "measure again"
        )
    earlier = [reason for reason in since_boot if reason not in reasons]
    if earlier:
        found.append(
            f"since it was started, but not while measuring, this board has had: "
            f"{', '.join(earlier)}; look after its power supply and cooling"
        )
    busy = conditions.busy_others or 0.0
    same = conditions.busy_others_same_cores or 0.0
    if max(busy, same) > BUSY:
        there = f" ({same:.0%} of the cores that measured)" if same > BUSY else ""
        found.append(
            f"others used {busy:.0%} of all CPU time while measuring{there}; stop other programs "
            "and measure again"
        )
    if conditions.stopped_by_limit:
        found.append(
            f"the CPU limit of this container stopped it {conditions.stopped_by_limit} times while "
            "measuring; raise the limit"
        )
    if conditions.governor in SAVING:
        found.append(
            f'the governor "{conditions.governor}" lowers the clock to save power; for steady '
            f"figures type: {PERFORMANCE}"
        )
    usable = device.get("cores")
    if usable == 1:
        found.append(
            "there is one core only, which the system shares with what is measured; stop all "
            "other programs"
        )
    elif isinstance(usable, int) and threads > usable:
        found.append(
            f"{threads} threads share {usable} cores and wait for each other; measure with "
            f"--threads {usable} or less"
        )
    if cores is None and hasattr(os, "sched_setaffinity"):
        found.append("processes may not be pinned to cores here, so that figures vary more")
    return found


def model_warnings(result: GraphResult, steady: bool, grown_bytes: int = 0) -> list[str]:
    """Say what of one model's runs makes its figures worth less.

    Args:
        result: its figures.
        steady: whether it became so while warming up.
        grown_bytes: how much more memory it took after its last run than after its first ones.
    """
    found = []
    if not steady:
        found.append(
            f"{result.model} did not become steady while warming up; measure longer, with "
            "--duration, on a quiet machine"
        )
    times = [each.us_per_sample for each in result.rounds]
    third = len(times) // 3
    if third >= 2:
        early, late = float(np.median(times[:third])), float(np.median(times[-third:]))
        change = late / early - 1
        if abs(change) > DRIFT:
            how = "slower" if change > 0 else "faster"
            found.append(
                f"{result.model} got {abs(change):.0%} {how} while it was measured ({early:,.1f} "
                f"to {late:,.1f} µs per sample); measure longer, with --duration, until it stays"
            )
    if grown_bytes > GROWN_BYTES:
        found.append(
            f"{result.model} took {grown_bytes / 1e6:.0f} MB more after its last run than after "
            "its first ones; a stream that lasts will take more than is shown"
        )
    if result.runs < FEW_RUNS:
        found.append(
            f"{result.model} made {result.runs} runs only, too few for its slow ones to be told "
            "apart; measure longer, with --duration"
        )
    return found


def _own_seconds() -> float:
    """CPU time of this process and of those that it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
