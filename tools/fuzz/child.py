"""One process that reads inputs in a row, under limits."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from random import Random

from s4edge.errors import S4EdgeError

from .mutate import raw
from .reader import Reader
from .tally import SharedTally, Tally
from .watch import Watch

MOST_SECONDS = 10  # of processor time, for one input
MOST_BYTES = 1 << 30  # that reading may add
# Where that much was taken the process could not say so any more.
_HARD_BYTES = 6 << 30
_LONGEST_MESSAGE = 5000
_SMALL = 200


def make(reader: Reader, seed: int, index: int) -> bytes:
    """The input of a number: the same in every run."""
    random = Random(f"{seed}/{reader.name}/{index}")
    seeds = reader.seeds()
    # Small files are read quickly, and a change is more likely to hit what matters.
    (chosen,) = random.choices(seeds, [1 / (_SMALL + len(seed)) for seed in seeds])
    try:
        return reader.mutate(random, chosen, seeds)
    except Exception:  # a change may leave what the next one cannot find its way in
        return raw.mutate(random, chosen, seeds)


def run(reader: Reader, seed: int, start: int, stop: int, shared: SharedTally, kept: Path) -> None:
    """Read the inputs of some numbers; keep those that show a fault. Ends the process.

    Status 3 says that memory went beyond the limit, so that another process goes on; 1, that this
    program is at fault.
    """
    warnings.simplefilter("ignore")
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=scratch()))
    status = 1
    try:
        status = _run(reader, seed, start, stop, shared, kept, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(status)


def scratch() -> str:
    """Where inputs are written: in memory, if that can be."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()


def _run(
    reader: Reader, seed: int, start: int, stop: int, shared: SharedTally, kept: Path, folder: Path
) -> int:
    tempfile.tempdir = str(folder)
    os.chdir(folder)
    reader.prepare(folder)
    for data in reader.seeds():  # what is imported and set up once is no input's cost
        _outcome(reader, folder, data)
    watch = Watch(folder)
    tally = Tally()
    space, memory = _space(), _memory()
    resource.setrlimit(resource.RLIMIT_AS, (space + _HARD_BYTES, resource.RLIM_INFINITY))
    for index in range(start, stop):
        before = time.process_time()
        tally.index = index
        tally.inputs += 1
        shared.put(tally)
        data = make(reader, seed, index)
        (folder / reader.file).write_bytes(data)
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)  # which ends the process
        begun = time.process_time()
        watch.start()
        fault = _outcome(reader, folder)
        seen = watch.stop()
        took = time.process_time() - begun
        signal.setitimer(signal.ITIMER_PROF, 0)
        tally.space = max(tally.space, _space() - space)
        tally.memory = max(tally.memory, _memory() - memory)
        if took > tally.slowest:
            tally.slowest, tally.slowest_index = took, index
        if seen is not None:
            fault = f"something was run: {seen}"
        if max(tally.space, tally.memory) > MOST_BYTES:
            fault = f"memory: {tally.memory >> 20} MB, address space {tally.space >> 20} MB"
        if fault is None:
            tally.read += 1
        elif fault == "":
            tally.refused += 1
        else:
            tally.bugs += 1
            keep(reader, index, data, fault, kept)
        tally.seconds += time.process_time() - before
        shared.put(tally)
        if max(tally.space, tally.memory) > MOST_BYTES:
            return 3
    return 0


def keep(reader: Reader, index: int, data: bytes, fault: str, kept: Path) -> None:
    """Write an input that shows a fault, and what it shows."""
    (kept / f"{reader.name}-{index}-{reader.file}").write_bytes(data)
    (kept / f"{reader.name}-{index}.txt").write_text(fault, encoding="utf-8", errors="replace")


def _outcome(reader: Reader, folder: Path, data: bytes | None = None) -> str | None:
    """None where an input was read, nothing where it was refused, else what is wrong."""
    if data is not None:
        (folder / reader.file).write_bytes(data)
    try:
        reader.read(folder)
    except S4EdgeError as error:
        said = str(error)
        if "\n" in said.strip():
            return f"several lines: {said!r}"
        if len(said) > _LONGEST_MESSAGE:
            return f"a message of {len(said)} characters: {said[:300]!r}"
        return ""
    except BaseException:
        return traceback.format_exc()
    return None


def _space() -> int:
    """The most address space that the process had."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmPeak"):
                return int(line.split()[1]) * 1024
    return 0


def _memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
