"""Machines as Linux shows them, made of files: to be put under a root of one's own."""

from __future__ import annotations

import os
from pathlib import Path

CPU = "sys/devices/system/cpu"


def put(root: Path, files: dict[str, object]) -> Path:
    """Write files by their paths below ``root``."""
    for name, value in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return root


def raspberry_pi(root: Path) -> Path:
    """A Pi 4 as Raspberry Pi OS shows it: four cores, governor ondemand."""
    files: dict[str, object] = {
        "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 108.00\n\nModel\t\t: Raspberry Pi 4 Model B",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
        "sys/class/thermal/thermal_zone0/temp": 48212,
        "sys/class/hwmon/hwmon0/name": "cpu_thermal",
        "sys/class/hwmon/hwmon0/temp1_input": 48212,
        "sys/class/hwmon/hwmon1/name": "rpi_volt",
        "sys/class/hwmon/hwmon1/in0_lcrit_alarm": 0,
    }
    for core in range(4):
        files |= {
            f"{CPU}/cpu{core}/cpufreq/scaling_governor": "ondemand",
            f"{CPU}/cpu{core}/cpufreq/scaling_cur_freq": 600000 + 300000 * core,
        }
    return put(root, files)


def big_and_little(root: Path) -> Path:
    """A board with two little and two big cores, with a fan and a clock that heat lowers."""
    files: dict[str, object] = {
        "sys/class/thermal/thermal_zone0/type": "gpu-thermal",
        "sys/class/thermal/thermal_zone0/temp": 91000,
        "sys/class/thermal/thermal_zone1/type": "bigcore0-thermal",
        "sys/class/thermal/thermal_zone1/temp": 99000,
        "sys/class/thermal/thermal_zone2/type": "soc-thermal",
        "sys/class/thermal/thermal_zone2/temp": 61500,
        "sys/class/thermal/thermal_zone3/type": "cpu-off",
        "sys/class/thermal/thermal_zone3/temp": -274000,
        "sys/class/thermal/cooling_device0/type": "pwm-fan",
        "sys/class/thermal/cooling_device0/cur_state": 3,
        "sys/class/thermal/cooling_device1/type": "cpufreq-cpu2",
        "sys/class/thermal/cooling_device1/cur_state": 0,
    }
    for core in range(4):
        files[f"{CPU}/cpu{core}/cpu_capacity"] = 1024 if core in (1, 2) else 414
        files[f"{CPU}/cpu{core}/cpufreq/scaling_governor"] = "performance"
    return put(root, files)


def desktop(root: Path) -> Path:
    """An x86-64 machine with counters of throttling and of energy, two packages."""
    files: dict[str, object] = {
        "proc/cpuinfo": "processor: 0\ncpu MHz\t: 800.125\n\nprocessor: 1\ncpu MHz\t: 3600.5",
        "sys/class/hwmon/hwmon0/name": "nvme",
        "sys/class/hwmon/hwmon0/temp1_input": 39850,
        "sys/class/hwmon/hwmon1/name": "coretemp",
        "sys/class/hwmon/hwmon1/temp1_input": 55000,
        "sys/class/hwmon/hwmon1/temp2_input": 57000,
    }
    for core in range(2):
        files[f"{CPU}/cpu{core}/thermal_throttle/core_throttle_count"] = 7
        files[f"{CPU}/cpu{core}/thermal_throttle/package_throttle_count"] = 9
    for package in range(2):
        zone = f"sys/class/powercap/intel-rapl:{package}"
        files |= {
            f"{zone}/name": f"package-{package}",
            f"{zone}/energy_uj": 1_000_000 * (package + 1),
            f"{zone}/max_energy_range_uj": 5_000_000,
            f"sys/class/powercap/intel-rapl:{package}:0/name": "core",
            f"sys/class/powercap/intel-rapl:{package}:0/energy_uj": 3,
        }
    return put(root, files)


def vcgencmd(folder: Path, throttled: str, pmic: str = "") -> str:
    """A command that answers as the firmware does, and counts its calls in ``calls``."""
    put(folder, {"throttled": throttled, "pmic": pmic})
    script = folder / "vcgencmd"
    script.write_text(
        "#!/bin/sh\n"
        f'echo "$1" >> "{folder}/calls"\n'
        'case "$1" in\n'
        f'  get_throttled) echo "throttled=$(cat "{folder}/throttled")";;\n'
        f'  pmic_read_adc) [ -s "{folder}/pmic" ] && cat "{folder}/pmic" || exit 1;;\n'
        "  *) echo 'error=1 error_msg=\"Command not registered\"';;\n"
        "esac\n"
    )
    os.chmod(script, 0o755)
    return str(script)
