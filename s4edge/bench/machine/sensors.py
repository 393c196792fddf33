"""Temperature, clock, governor and throttling, where the system tells them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from s4edge.bench.machine import vcgencmd as firmware
from s4edge.bench.machine.kernel_files import find, read_int, read_text

# Starting a process costs a board some ms: the firmware is not asked more often than this.
_SECONDS_BETWEEN_QUESTIONS = 1.0
# Names of thermal zones and of hwmon chips that are a processor's.
_PROCESSOR = ("cpu", "core", "soc", "x86_pkg", "k10temp", "zenpower", "package", "cluster")
TOO_HOT = "temperature limit"
UNDER_VOLTAGE = "under-voltage"


@dataclasses.dataclass(frozen=True)
class Reading:
    """What the sensors said at one moment; None for what nothing tells.

    Attributes:
        temperature_c: of the processor, the hottest of its sensors.
        clock_mhz: of the cores that measure, their mean.
        throttled: whether something holds the processor back.
        reasons: what does.
    """

    temperature_c: float | None = None
    clock_mhz: float | None = None
    throttled: bool | None = None
    reasons: Sequence[str] = ()


class Sensors:
    """The sensors of this machine.

    Attributes:
        since_boot: what held the processor back before these sensors were opened, as far as the
            firmware of a Raspberry Pi tells.
    """

    def __init__(
        self,
        cores: Sequence[int] | None = None,
        root: Path = Path("/"),
        vcgencmd: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Look which sensors there are.

        Args:
            cores: those whose clock matters; None for all.
            root: folder that holds the kernel's ``sys`` and ``proc``.
            vcgencmd: path of a Raspberry Pi's command, None to do without.
            clock: seconds that never go back.
        """
        self._root, self._clock, self._vcgencmd = root, clock, vcgencmd
        system = root / "sys/devices/system/cpu"
        folders = find(system, "cpu[0-9]*")
        if cores is not None:
            folders = [folder for folder in folders if folder.name in {f"cpu{c}" for c in cores}]
        self._cores = folders
        self._temperatures = _temperature_files(root)
        self._cooling = [
            folder / "cur_state"
            for folder in find(root / "sys/class/thermal", "cooling_device*")
            if _slows_processor(read_text(folder / "type") or "")
        ]
        self._counters = [
            path for folder in folders for path in find(folder, "thermal_throttle/*_throttle_count")
        ]
        self._counted = self._counts()
        self._alarms = [
            chip / "in0_lcrit_alarm"
            for chip in find(root / "sys/class/hwmon", "hwmon*")
            if read_text(chip / "name") == "rpi_volt"
        ]
        self._bits: int | None = None
        self._asked = -float("inf")
        bits = self._firmware_bits()
        self.since_boot = [] if bits is None else firmware.reasons_since_boot(bits)

    def read(self) -> Reading:
        """Read all sensors."""
        throttled, reasons = self._throttling()
        return Reading(self._temperature(), self._clock_mhz(), throttled, reasons)

    def governor(self) -> str | None:
        """Name what sets the clock of the cores that measure."""
        for folder in self._cores:
            name = read_text(folder / "cpufreq/scaling_governor")
            if name:
                return name
        return None

    def _temperature(self) -> float | None:
        # In thousandths of a degree; sensors that are off say nonsense.
        found = [value / 1000 for value in map(read_int, self._temperatures) if value is not None]
        found = [value for value in found if -60 < value < 200]
        return max(found) if found else None

    def _clock_mhz(self) -> float | None:
        found = [read_int(folder / "cpufreq/scaling_cur_freq") for folder in self._cores]
        known = [value / 1000 for value in found if value]
        if not known:
            known = self._clocks_of_x86()
        return sum(known) / len(known) if known else None

    def _clocks_of_x86(self) -> list[float]:
        names = {folder.name for folder in self._cores}
        found, core = [], ""
        for line in (read_text(self._root / "proc/cpuinfo") or "").splitlines():
            key, _, value = (part.strip() for part in line.partition(":"))
            if key == "processor":
                core = f"cpu{value}"
            elif key == "cpu MHz" and (core in names or not names):
                try:
                    found.append(float(value))
                except ValueError:
                    continue
        return found

    def _throttling(self) -> tuple[bool | None, list[str]]:
        reasons: list[str] = []
        told = bool(self._cooling or self._counters or self._alarms)
        bits = self._firmware_bits()
        if bits is not None:
            told = True
            reasons += firmware.reasons_now(bits)
            # What came and went since the last look is kept in the upper bits.
            reasons += [
                name for name in firmware.reasons_since_boot(bits) if name not in self.since_boot
            ]
        if any(read_int(path) for path in self._alarms):
            reasons.append(UNDER_VOLTAGE)
        counts = self._counts()
        if counts != self._counted or any(read_int(path) for path in self._cooling):
            reasons.append(TOO_HOT)
        self._counted = counts
        return (bool(reasons) if told else None), list(dict.fromkeys(reasons))

    def _counts(self) -> list[int | None]:
        return [read_int(path) for path in self._counters]

    def _firmware_bits(self) -> int | None:
        from_kernel = read_text(self._root / "sys/devices/platform/soc/soc:firmware/get_throttled")
        if from_kernel is not None:
            try:
                return int(from_kernel, 16)
            except ValueError:
                pass
        if self._vcgencmd is None:
            return None
        now = self._clock()
        if now - self._asked >= _SECONDS_BETWEEN_QUESTIONS:
            self._bits = firmware.throttling(self._vcgencmd)
            self._asked = now
        return self._bits


def _temperature_files(root: Path) -> list[Path]:
    """Files of the processor's temperature; of anything's where none is called so."""
    named = [
        (read_text(zone / "type") or "", zone / "temp")
        for zone in find(root / "sys/class/thermal", "thermal_zone*")
    ]
    for chip in find(root / "sys/class/hwmon", "hwmon*"):
        named += [(read_text(chip / "name") or "", path) for path in find(chip, "temp*_input")]
    processor = [path for name, path in named if any(p in name.lower() for p in _PROCESSOR)]
    return processor or [path for _, path in named[:1]]


def _slows_processor(kind: str) -> bool:
    return "cpufreq" in kind or kind == "Processor"
