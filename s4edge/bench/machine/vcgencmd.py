"""What the firmware of a Raspberry Pi tells through its command ``vcgencmd``."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence

# Bits of get_throttled: what is so now; the same 16 bits further up: what has been since boot.
_BITS = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
_SINCE_BOOT = 16


def find_vcgencmd() -> str | None:
    """Give the command's path, None on other boards."""
    return shutil.which("vcgencmd")


def ask(vcgencmd: str, *words: str) -> str | None:
    """Give an answer, None where the firmware gives none (no right to ask, say)."""
    try:
        done = subprocess.run(
            [vcgencmd, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=2,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")


def throttling(vcgencmd: str) -> int | None:
    """Give the bits of ``get_throttled``."""
    found = re.search(r"throttled=(0x[0-9a-fA-F]+)", ask(vcgencmd, "get_throttled") or "")
    return None if found is None else int(found[1], 16)


def reasons_now(bits: int) -> list[str]:
    """Name what holds the processor back at this moment."""
    return [name for place, name in enumerate(_BITS) if bits >> place & 1]


def reasons_since_boot(bits: int) -> list[str]:
    """Name what has held it back since the board was started."""
    return reasons_now(bits >> _SINCE_BOOT)


def watts(vcgencmd: str) -> float | None:
    """Give the power of all rails that a Pi 5's power chip measures, None on older ones."""
    answer = ask(vcgencmd, "pmic_read_adc") or ""
    currents, volts = (_rails(answer, unit) for unit in "AV")
    both = currents.keys() & volts.keys()
    return sum(currents[rail] * volts[rail] for rail in both) if both else None


def _rails(answer: str, unit: str) -> dict[str, float]:
    found: Sequence[tuple[str, str]] = re.findall(
        rf"(\S+)_{unit} \w+\(\d+\)=([0-9.]+){unit}", answer
    )
    return {rail: float(value) for rail, value in found}
