"""Energy that the machine takes, where it has a counter for it or measures its power."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from s4edge.bench.machine import vcgencmd as firmware
from s4edge.bench.machine.kernel_files import find, read_int, read_text

_SECONDS_BETWEEN_QUESTIONS = 1.0


class Meter:
    """Energy of a span of time: `begin`, `during` somewhere in it, `end`. Knows none itself."""

    def begin(self) -> None:
        """A span begins."""

    def during(self) -> None:
        """The machine is at work, and this process has a moment."""

    def end(self) -> float | None:
        """Give the energy since `begin` in µJ, None where it is not known."""
        return None


class CounterMeter(Meter):
    """Reads counters in µJ: of whole processors, so with all else that runs on them."""

    def __init__(self, counters: Sequence[tuple[Path, int | None]]) -> None:
        """Args: counters: files, and where each starts again at zero."""
        self._counters = counters
        self._begun: list[int | None] = []

    def begin(self) -> None:
        """A span begins."""
        self._begun = [read_int(path) for path, _ in self._counters]

    def end(self) -> float | None:
        """Give the energy since `begin` in µJ, None where it is not known."""
        total = 0.0
        for (path, highest), before in zip(self._counters, self._begun):
            now = read_int(path)
            if now is None or before is None:
                return None
            if now < before:
                if highest is None:
                    return None
                now += highest
            total += now - before
        return total


class PowerMeter(Meter):
    """Multiplies power, asked for now and then, with time."""

    def __init__(
        self, watts: Callable[[], float | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Args: watts: the power now; clock: seconds that never go back."""
        self._watts, self._clock = watts, clock
        self._power: float | None = None
        self._asked = -float("inf")
        self._begun = 0.0

    def begin(self) -> None:
        """A span begins."""
        self._begun = self._clock()

    def during(self) -> None:
        """The machine is at work, and this process has a moment."""
        if self._clock() - self._asked >= _SECONDS_BETWEEN_QUESTIONS:
            self._asked = self._clock()
            self._power = self._watts()

    def end(self) -> float | None:
        """Give the energy since `begin` in µJ, None where it is not known."""
        return None if self._power is None else self._power * (self._clock() - self._begun) * 1e6


def find_meter(root: Path = Path("/"), vcgencmd: str | None = None) -> Meter:
    """Find what measures energy here.

    Args:
        root: folder that holds the kernel's ``sys``.
        vcgencmd: path of a Raspberry Pi's command, None to do without.
    """
    counters = [(path, top) for path, top in _counters(root) if read_int(path) is not None]
    if counters:
        return CounterMeter(counters)
    if vcgencmd is not None and firmware.watts(vcgencmd) is not None:
        return PowerMeter(lambda: firmware.watts(vcgencmd))
    return Meter()


def _counters(root: Path) -> list[tuple[Path, int | None]]:
    # Whole packages only: their cores and memory are counted again in zones of their own.
    packages = [
        (zone / "energy_uj", read_int(zone / "max_energy_range_uj"))
        for zone in find(root / "sys/class/powercap", "intel-rapl:[0-9]*")
        if (read_text(zone / "name") or "").startswith("package")
    ]
    if packages:
        return packages
    inputs = find(root / "sys/class/hwmon", "hwmon*/energy*_input")
    labels = [
        read_text(path.with_name(path.name.replace("_input", "_label"))) or "" for path in inputs
    ]
    sockets = [path for path, label in zip(inputs, labels) if label.startswith("Esocket")]
    return [(path, None) for path in sockets or inputs]
