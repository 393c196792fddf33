"""The bench's end of one `s4edge.bench.worker`."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from s4edge.bench.machine.pinning import pinned
from s4edge.errors import S4EdgeError, means_no_memory
from s4edge.runtime.description import GraphInfo

# Not `-m`, for the clock has to start before the first import.
_PROGRAM = (
    "import sys, time; started = time.perf_counter(); "
    "from s4edge.bench.worker import main; sys.exit(main(started))"
)


class WorkerProcess:
    """One process that measures one graph; leaving the context kills it.

    Attributes:
        info: the graph.
        started: its first answer, with ``first_answer_seconds`` from the start of the process.
        cpu_seconds: CPU time of the process up to its latest answer.
    """

    def __init__(self, info: GraphInfo, threads: int, cores: Sequence[int] | None) -> None:
        self.info = info
        self.started: dict[str, Any] = {}
        self.cpu_seconds = 0.0
        self._cores = cores
        self._command = [
            *(sys.executable, "-c", _PROGRAM, str(info.path.resolve())),
            *("--threads", str(threads)),
        ]

    def __enter__(self) -> WorkerProcess:
        # A file, since nobody reads a pipe while waiting for an answer.
        self._errors = tempfile.TemporaryFile()
        try:
            begin = time.perf_counter()
            # It inherits its cores, so that it is on them from its first instruction.
            with pinned(self._cores):
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._errors,
                    text=True,
                    # Where this very s4edge is, and not where the user is, whose files could bear
                    # the names of modules: Python looks there first.
                    cwd=Path(__file__).resolve().parents[2],
                    # Ctrl-C is the bench's to hear: it ends its processes itself.
                    start_new_session=True,
                )
        except OSError as error:
            self._errors.close()
            raise S4EdgeError(
                f"measuring {self.info.path} failed: no process could be started "
                f"({error.strerror}); close other programs"
            ) from error
        except BaseException:
            self._errors.close()
            raise
        try:
            self.started = self.read()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        self.started["first_answer_seconds"] = time.perf_counter() - begin
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):  # a command that a dead worker never read
                if pipe is not None:
                    pipe.close()

    def tell(self, command: str) -> None:
        """Send one command; `read` gives the answer."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `read` finds out why
            self._process.stdin.write(f"{command}\n")
            self._process.stdin.flush()

    def ask(self, command: str) -> dict[str, Any]:
        """Send one command and give the answer to it.

        Raises:
            S4EdgeError: the worker has failed.
        """
        self.tell(command)
        return self.read()

    def read(self) -> dict[str, Any]:
        """Give the next answer.

        Raises:
            S4EdgeError: the worker has failed.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise S4EdgeError(f"measuring {self.info.path} failed: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise S4EdgeError(str(answer["error"]))
        self.cpu_seconds = answer.get("cpu_seconds", self.cpu_seconds)
        return answer

    def _last_words(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        last = said[-1] if said else ""
        if status == -signal.SIGKILL:
            return (
                "the process was killed (signal 9), as happens where memory runs out; close other "
                "programs or measure a smaller graph"
            )
        if last.startswith("MemoryError") or means_no_memory(RuntimeError(last)):
            return f"not enough memory ({last}); close other programs or raise the limit"
        how = (
            f"was killed by signal {-status}" if status < 0 else f"ended with exit status {status}"
        )
        return f"the process {how}" + (f": {last}" if last else "")
