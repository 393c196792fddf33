"""Shares inputs out among processes, and goes on where one of them dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import child
from .reader import Reader
from .tally import SharedTally, Tally

_BATCH = 5000
# Of wall time without a next input: waiting for a pipe, say. Processor time is limited closer.
_STUCK_SECONDS = 60
_MOST_ATTEMPTS = 5


@dataclass
class _Task:
    """Inputs that a process reads."""

    reader: Reader
    start: int
    stop: int
    shared: SharedTally = field(default_factory=SharedTally)
    attempts: int = 1
    seen: int = -1
    since: float = 0.0


def fuzz(
    readers: Sequence[Reader],
    inputs: Mapping[str, int],
    seed: int,
    first: int,
    processes: int,
    kept: Path,
    progress: Callable[[Mapping[str, Tally]], None] = lambda tallies: None,
) -> dict[str, Tally]:
    """Read so many inputs with each reader.

    Args:
        readers: those to test.
        inputs: how many for each, by name.
        seed: of all random numbers.
        first: number of the first input.
        processes: at the same time.
        kept: folder for inputs that show a fault.
        progress: told of the tallies now and then.
    """
    tallies = {reader.name: Tally() for reader in readers}
    waiting = list(_tasks(readers, inputs, first))[::-1]
    running: dict[int, _Task] = {}
    for reader in readers:
        reader.seeds()  # made once, before the processes part
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                task = waiting.pop()
                running[_start(task, seed, kept)] = task
            process, status = os.waitpid(-1, os.WNOHANG)
            if process in running:
                task = running.pop(process)
                waiting += _finish(task, status, seed, kept, tallies[task.reader.name])
                progress(tallies)
                continue
            _end_stuck(running)
            time.sleep(0.02)
    finally:
        for process in running:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
    return tallies


def _tasks(readers: Sequence[Reader], inputs: Mapping[str, int], first: int) -> Iterator[_Task]:
    for reader in readers:
        end = first + inputs[reader.name]
        for start in range(first, end, _BATCH):
            yield _Task(reader, start, min(start + _BATCH, end))


def _start(task: _Task, seed: int, kept: Path) -> int:
    task.since = time.monotonic()
    process = os.fork()
    if process == 0:
        child.run(task.reader, seed, task.start, task.stop, task.shared, kept)
    return process


def _finish(task: _Task, status: int, seed: int, kept: Path, tally: Tally) -> list[_Task]:
    """Count what a process did; what it left to do."""
    done = task.shared.get()
    task.shared.close()
    if done.index < task.start:  # nothing was read: it is the machine's or a library's fault
        if task.attempts == _MOST_ATTEMPTS:
            raise RuntimeError(f"no process of {task.reader.name} gets to its first input")
        return [_Task(task.reader, task.start, task.stop, attempts=task.attempts + 1)]
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        over = number in (signal.SIGPROF, signal.SIGKILL)
        what = "took too long" if over else "crashed the interpreter"
        data = child.make(task.reader, seed, done.index)
        child.keep(task.reader, done.index, data, f"{what} (signal {number})", kept)
        done.bugs += 1
    elif os.WEXITSTATUS(status) not in (0, 3):
        raise RuntimeError(f"the process of {task.reader.name} ended with {status}")
    tally.add(done)
    left = _Task(task.reader, done.index + 1, task.stop)
    return [left] if left.start < left.stop else []


def _end_stuck(running: Mapping[int, _Task]) -> None:
    now = time.monotonic()
    for process, task in running.items():
        index = task.shared.get().index
        if index != task.seen:
            task.seen, task.since = index, now
        elif now - task.since > _STUCK_SECONDS:
            os.kill(process, signal.SIGKILL)
