"""Against files as boards have them."""

from __future__ import annotations

from pathlib import Path

import fake_machine
import pytest
from fake_machine import CPU, put

from s4edge.bench.machine import vcgencmd as firmware
from s4edge.bench.machine.energy import Meter, PowerMeter, find_meter
from s4edge.bench.machine.sensors import Reading, Sensors

NOTHING = Reading(reasons=[])


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_raspberry_pi(tmp_path: Path) -> None:
    root = fake_machine.raspberry_pi(tmp_path)
    sensors = Sensors([3], root)
    assert sensors.read() == Reading(48.212, 1500.0, False, [])
    assert sensors.governor() == "ondemand"
    assert Sensors([0, 2], root).read().clock_mhz == 900
    assert Sensors(None, root).read().clock_mhz == 1050
    put(root, {"sys/class/thermal/thermal_zone0/temp": 83000})
    put(root, {"sys/class/hwmon/hwmon1/in0_lcrit_alarm": 1})
    hot = sensors.read()
    assert hot.temperature_c == 83
    assert (hot.throttled, hot.reasons) == (True, ["under-voltage"])


@pytest.mark.parametrize(
    # As Raspberry Pi documents the bits.
    ("bits", "now", "since_boot"),
    [
        ("0x0", [], []),
        ("0x1", ["under-voltage"], []),
        ("0x2", ["frequency capped"], []),
        ("0x4", ["throttled"], []),
        ("0x8", ["soft temperature limit"], []),
        ("0x50005", ["under-voltage", "throttled"], ["under-voltage", "throttled"]),
        ("0xe0000", [], ["frequency capped", "throttled", "soft temperature limit"]),
    ],
)
def test_bits_of_the_firmware(
    tmp_path: Path, bits: str, now: list[str], since_boot: list[str]
) -> None:
    command = fake_machine.vcgencmd(tmp_path, bits)
    sensors = Sensors([0], tmp_path / "nothing", command)
    assert sensors.since_boot == since_boot
    reading = sensors.read()
    assert reading.throttled is bool(now)
    assert list(reading.reasons) == now


def test_what_came_and_went_between_two_looks_is_seen(tmp_path: Path) -> None:
    clock = Clock()
    command = fake_machine.vcgencmd(tmp_path, "0x50000")
    sensors = Sensors([0], tmp_path / "nothing", command, clock)
    assert sensors.read() == Reading(None, None, False, [])
    # Throttled for a moment: only the upper bits still say so.
    put(tmp_path, {"throttled": "0x70000"})
    clock.now = 5.0
    assert sensors.read().reasons == ["frequency capped"]


def test_the_firmware_is_not_asked_at_every_look(tmp_path: Path) -> None:
    clock = Clock()
    sensors = Sensors([0], tmp_path, fake_machine.vcgencmd(tmp_path, "0x0"), clock)
    for clock.now in (0.0, 0.1, 0.9, 1.5, 1.6, 2.6):
        sensors.read()
    assert (tmp_path / "calls").read_text().splitlines() == ["get_throttled"] * 3


def test_firmware_bits_that_the_kernel_tells(tmp_path: Path) -> None:
    put(tmp_path, {"sys/devices/platform/soc/soc:firmware/get_throttled": "50005"})
    sensors = Sensors([0], tmp_path)
    assert sensors.since_boot == ["under-voltage", "throttled"]
    assert sensors.read().reasons == ["under-voltage", "throttled"]


def test_firmware_that_does_not_answer(tmp_path: Path) -> None:
    broken = tmp_path / "vcgencmd"
    for content, mode in (
        ("#!/bin/sh\necho 'VCHI initialization failed' >&2\nexit 255\n", 0o755),
        ("#!/bin/sh\necho gibberish\n", 0o755),
        ("#!/bin/sh\nprintf 'throttled=\\377'\n", 0o755),
        ("", 0o644),
    ):
        broken.write_text(content)
        broken.chmod(mode)
        assert Sensors([0], tmp_path, str(broken)).read() == NOTHING
    assert Sensors([0], tmp_path, str(tmp_path / "none")).read() == NOTHING


def test_board_with_big_and_little_cores(tmp_path: Path) -> None:
    root = fake_machine.big_and_little(tmp_path)
    sensors = Sensors([2], root)
    # Neither the graphics' nor a sensor that is off; a fan that turns holds nothing back.
    assert sensors.read().throttled is False
    assert sensors.read().temperature_c == 99
    put(root, {"sys/class/thermal/cooling_device1/cur_state": 2})
    assert sensors.read().reasons == ["temperature limit"]


def test_desktop(tmp_path: Path) -> None:
    root = fake_machine.desktop(tmp_path)
    sensors = Sensors([1], root)
    assert sensors.read() == Reading(57.0, 3600.5, False, [])
    assert sensors.governor() is None
    # The other core is not the one that measures.
    put(root, {f"{CPU}/cpu0/thermal_throttle/core_throttle_count": 8})
    assert sensors.read().throttled is False
    put(root, {f"{CPU}/cpu1/thermal_throttle/core_throttle_count": 8})
    assert sensors.read().reasons == ["temperature limit"]
    assert sensors.read().throttled is False


def test_nothing_to_read(tmp_path: Path) -> None:
    sensors = Sensors(None, tmp_path)
    assert sensors.read() == NOTHING
    assert sensors.governor() is None
    assert sensors.since_boot == []


def test_files_that_say_nonsense(tmp_path: Path) -> None:
    root = fake_machine.raspberry_pi(tmp_path)
    zone = root / "sys/class/thermal/thermal_zone0/temp"
    for content in (b"", b"warm\n", b"\xff\xfe"):
        zone.write_bytes(content)
        assert Sensors([3], root).read().temperature_c == 48.212  # of the other sensor
    zone.unlink()
    zone.mkdir()
    assert Sensors([3], root).read().temperature_c == 48.212


def test_energy_of_whole_packages(tmp_path: Path) -> None:
    root = fake_machine.desktop(tmp_path)
    meter = find_meter(root)
    meter.begin()
    meter.during()
    put(root, {"sys/class/powercap/intel-rapl:0/energy_uj": 1_250_000})
    # This one has started again at zero.
    put(root, {"sys/class/powercap/intel-rapl:1/energy_uj": 500_000})
    assert meter.end() == 250_000 + (5_000_000 - 2_000_000 + 500_000)
    (root / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    assert meter.end() is None


def test_energy_of_other_chips(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "sys/class/hwmon/hwmon3/energy1_input": 100,
            "sys/class/hwmon/hwmon3/energy1_label": "Ecore000",
            "sys/class/hwmon/hwmon3/energy2_input": 1000,
            "sys/class/hwmon/hwmon3/energy2_label": "Esocket0",
        },
    )
    meter = find_meter(tmp_path)
    meter.begin()
    put(tmp_path, {"sys/class/hwmon/hwmon3/energy1_input": 150})
    put(tmp_path, {"sys/class/hwmon/hwmon3/energy2_input": 1700})
    assert meter.end() == 700
    put(tmp_path, {"sys/class/hwmon/hwmon3/energy2_input": 3})
    assert meter.end() is None  # nobody knows where it started again


# Of a Pi 5, cut down to four rails, of which one has no current and one no voltage.
PMIC = """     3V3_SYS_A current(1)=0.06831300A
     VDD_CORE_A current(7)=2.00000000A
     HDMI_A current(22)=0.02295540A
     3V3_SYS_V volt(9)=3.00000000V
     VDD_CORE_V volt(15)=0.75000000V
     EXT5V_V volt(24)=5.15540000V"""


def test_energy_from_power(tmp_path: Path) -> None:
    command = fake_machine.vcgencmd(tmp_path, "0x0", PMIC)
    watts = firmware.watts(command)
    assert watts == pytest.approx(0.068313 * 3 + 2 * 0.75)
    assert isinstance(find_meter(tmp_path, command), PowerMeter)
    clock, powers = Clock(), iter([4.0, 6.0])
    meter = PowerMeter(lambda: next(powers), clock)
    meter.begin()
    assert meter.end() is None
    for begin, energy in ((0.0, 2e6), (0.6, 2e6), (1.2, 3e6)):
        clock.now = begin
        meter.begin()
        meter.during()
        clock.now += 0.5
        assert meter.end() == pytest.approx(energy)


def test_no_meter(tmp_path: Path) -> None:
    for command in (None, fake_machine.vcgencmd(tmp_path, "0x0")):
        meter = find_meter(tmp_path, command)
        assert type(meter) is Meter
        meter.begin()
        meter.during()
        assert meter.end() is None
