"""How many sequences are looked at, and what memory that takes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from s4edge.compression.states.calibration import BLOCK_FLOATS, Calibration
from s4edge.errors import S4EdgeError
from s4edge.model.sequence_model import SequenceModel
from s4edge.systems.parallel import available_cores

# Sequences that layers are fitted to, at least where there are as many and at most, and samples of
# all of them together. More tell little: N sequences tell a mean square to about sqrt(2 / N).
LEAST, _MOST, _SAMPLES = 64, 256, 2**19
# With fewer nothing would be known.
_FEWEST = 8
# Tensors of a block's size that a pass forward and backward holds for each block of the model, and
# arrays of one channel's sequences that are alive at once, in bytes a sample.
_HELD, _OF_A_CHANNEL = 12, 80
# Of the program itself, and of small things.
_REST = 2**27
# Where the system does not tell what is free.
_UNKNOWN = 2**32


@dataclass(frozen=True)
class Plan:
    """What calibration looks at.

    Attributes:
        sample: sequences that layers are fitted to.
        measured: others that the output's error is measured on, at most.
        descended: more that all layers are moved together on, at most.
        given: sequences that there are.
        bytes: memory that it takes beside the model and the data, about.
        limit: memory that it may take.
    """

    sample: int
    measured: int
    descended: int
    given: int
    bytes: int
    limit: int

    def told(self) -> str:
        """For people."""
        others = min(self.measured, self.given - self.sample)
        measured = f"{others:,} others" if others >= LEAST else "the same ones"
        return (
            f"Calibration: layers are fitted to {self.sample:,} of {self.given:,} sequences, the "
            f"output's error is measured on {measured}; about {self.bytes / 1e6:,.0f} MB of "
            f"{self.limit / 1e6:,.0f} MB, {available_cores()} threads."
        )


def plan(model: SequenceModel, calibration: Calibration) -> Plan:
    """As many sequences as tell enough, if the memory holds them.

    Raises:
        S4EdgeError: the memory that is allowed does not hold the fewest.
    """
    config, length = model.config, calibration.length
    lengths = config.samples_entering(length)
    itemsize = model.dtype.itemsize
    inside = [
        samples * block.systems.channels
        for block, samples in zip(config.blocks, lengths, strict=False)
    ]
    widest = max(inside)
    # Gradients in half precision, two passages on their way, and copies where sequences are moved
    # to end together or a norm stands before the systems.
    copies = 2 * (calibration.lengths is not None or config.blocks[0].norm_placement == "pre")
    each = 2 * sum(inside) + (2 + copies) * widest * itemsize
    threads = available_cores()
    each += threads * length * _OF_A_CHANNEL
    block = max(1, BLOCK_FLOATS // widest)
    fixed = _REST + threads * block * sum(inside) * _HELD * itemsize
    given = len(calibration)
    limit = calibration.memory or free_memory() // 2
    wanted = min(given, max(LEAST, min(_MOST, _SAMPLES // length)))
    sample = min(wanted, (limit - fixed) // each)
    if sample < min(_FEWEST, given):
        least = fixed + min(_FEWEST, given) * each
        raise S4EdgeError(
            f"calibrating this model on sequences of {length:,} samples takes at least "
            f"{least / 1e6:,.0f} MB of memory, and {limit / 1e6:,.0f} MB are allowed: give more "
            "with --memory, or shorter sequences"
        )
    return Plan(sample, wanted, 4 * wanted, given, fixed + sample * each, limit)


def free_memory() -> int:
    """Bytes that are free for this process."""
    found = [_available(Path("/proc/meminfo"))]
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        most, now = _number(Path(limit)), _number(Path(used))
        if most is not None and now is not None:
            found.append(max(most - now, 0))
    known = [each for each in found if each is not None]
    return min(known, default=_UNKNOWN)


def _available(path: Path) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return _pages()
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return _pages()


def _pages() -> int | None:
    """Of all memory, where the kernel keeps no account of what is free."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such file, or no limit: "max"
        return None
