"""How much of the machine others used while something was measured."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from s4edge.bench.machine.kernel_files import read_text

# Columns of /proc/stat: user nice system idle iowait irq softirq steal; what follows is counted in
# the first two already. Stolen time is another guest's of the same host.
_BUSY = (0, 1, 2, 5, 6, 7)
_IDLE = (3, 4)
# The kernel counts in hundredths of a second: less than this says nothing.
_LEAST_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class CpuTimes:
    """Seconds since the machine was started, ``(busy, all)``, of all cores and of each."""

    total: tuple[float, float]
    cores: Mapping[int, tuple[float, float]]


def cpu_times(root: Path = Path("/")) -> CpuTimes | None:
    """Read what the kernel has counted, None where it does not tell."""
    text = read_text(root / "proc/stat")
    if text is None:
        return None
    try:
        tick = 1 / os.sysconf("SC_CLK_TCK")
    except (AttributeError, OSError, ValueError):
        tick = 0.01
    total, cores = None, {}
    for line in text.splitlines():
        name, *fields = line.split()
        if not name.startswith("cpu"):
            continue
        try:
            ticks = [int(field) for field in fields] + [0] * 8
            busy = sum(ticks[column] for column in _BUSY) * tick
            found = (busy, busy + sum(ticks[column] for column in _IDLE) * tick)
            if name == "cpu":
                total = found
            else:
                cores[int(name[3:])] = found
        except ValueError:
            continue
    return None if total is None else CpuTimes(total, cores)


def stops_by_limit(root: Path = Path("/")) -> int | None:
    """How often a container's CPU limit has stopped this process, None without one."""
    for line in (read_text(root / "sys/fs/cgroup/cpu.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name == "nr_throttled" and value.isdigit():
            return int(value)
    return None


@dataclasses.dataclass(frozen=True)
class Others:
    """What others used in some spans of time.

    Attributes:
        used: CPU seconds that were used, and not by the bench.
        spent: CPU seconds that there were.
    """

    used: float = 0.0
    spent: float = 0.0

    def plus(
        self,
        before: CpuTimes | None,
        after: CpuTimes | None,
        own_seconds: float,
        cores: Sequence[int] | None = None,
    ) -> Others:
        """Add a span.

        Args:
            before: at its beginning.
            after: at its end.
            own_seconds: CPU time of the bench meanwhile, on those cores.
            cores: count these only; None for all.
        """
        if before is None or after is None:
            return self
        pairs = [(before.total, after.total)]
        if cores is not None:
            if any(core not in before.cores or core not in after.cores for core in cores):
                return self
            pairs = [(before.cores[core], after.cores[core]) for core in cores]
        busy = sum(later[0] - earlier[0] for earlier, later in pairs)
        spent = sum(later[1] - earlier[1] for earlier, later in pairs)
        return Others(self.used + busy - own_seconds, self.spent + spent)

    @property
    def share(self) -> float | None:
        """The others' share, 0 to 1; None where nobody tells or too little time has passed."""
        if self.spent < _LEAST_SECONDS:
            return None
        return min(max(self.used / self.spent, 0.0), 1.0)
