"""Models as C: libraries that s4edge's C was compiled to, and C files, compiled when opened."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from s4edge.arrays import Float, Single
from s4edge.errors import S4EdgeError
from s4edge.runtime.backends.base import Graph, Running
from s4edge.runtime.backends.c.compiler import Compiler, compile_library, find_compiler
from s4edge.runtime.backends.c.library import CLibrary, open_library, read_library_info
from s4edge.runtime.backends.c.source import header_of, read_c_description
from s4edge.runtime.description import GraphInfo

# Libraries of C files that were opened, the newest of them.
_MOST_KEPT = 16


def open_file(path: Path, threads: int) -> CGraph:
    """Open a library, or compile a C file with the system's compiler.

    Args:
        path: the ``.so`` or ``.c`` file, that one with its header beside it.
        threads: it runs on one, whatever may be used.

    Raises:
        S4EdgeError: no such file, not written by s4edge or by a newer one, for another machine, or
            there is no compiler for a C file.
    """
    if path.suffix != ".c":
        library = open_library(path)
        return CGraph(library.info, library)
    info = read_c_description(path)
    with _compiled(path) as made:
        try:
            return CGraph(info, open_library(made))
        except S4EdgeError as error:
            reason = str(error.__cause__ or error).rpartition(": ")[2]
            raise S4EdgeError(
                f"{path} is compiled, but not as s4edge wrote it ({reason}); write it again with: "
                "s4edge export MODEL --c"
            ) from error


def read_info(path: Path) -> GraphInfo:
    """What a file, maybe for another machine, says of itself. Raises as `open_file` does."""
    return read_c_description(path) if path.suffix == ".c" else read_library_info(path)


class CGraph(Graph):
    """A library's model."""

    def __init__(self, info: GraphInfo, library: CLibrary) -> None:
        self.info, self.library, self.batch = info, library, None
        self.runtime = f"C ({library.compiler})"

    def start(self, batch: int) -> Running:
        """A state for each sequence."""
        return _Streams(self, batch)

    def run(self, x: Single) -> Single:
        """Outputs of whole sequences, each from zero state."""
        return self.start(len(x)).extend(x)


class _Streams(Running):
    """Sequences side by side, one after the other."""

    def __init__(self, graph: CGraph, batch: int) -> None:
        info = graph.info
        self._library = graph.library
        self.x: Single = np.zeros((batch, info.d_input), np.float32)
        self.y: Single = np.zeros((batch, info.d_output), np.float32)
        self._states: Single = np.zeros((batch, info.state_floats), np.float32)
        self._before = self._states.copy()
        self._calls: list[Callable[[], None]] = [
            graph.library.bound(state, self.x[row : row + 1], self.y[row : row + 1])
            for row, state in enumerate(self._states)
        ]

    def run(self) -> None:
        self._before[...] = self._states
        for call in self._calls:
            call()

    def undo(self) -> None:
        self._states[...] = self._before

    @property
    def state(self) -> Single:
        return self._states

    def extend(self, x: Single) -> Single:
        y = np.empty((*x.shape[:2], self.y.shape[1]), np.float32)
        for state, row, out in zip(self._states, x, y):
            self._library.run(state, np.ascontiguousarray(row), out)
        if x.shape[1]:
            self.y[...] = y[:, -1]
        return y

    def timed(self, x: Single) -> Float:
        return self._library.time(self._states[0], np.ascontiguousarray(x[0])) * 1e9


@contextlib.contextmanager
def _compiled(path: Path) -> Iterator[Path]:
    """The library of a C file, compiled unless that was done before, while it is opened.

    It is kept in the user's cache, under a name that says what it was made of; where there is no
    such folder, it is gone once it is loaded.
    """
    header, compiler = header_of(path), find_compiler()
    if not compiler.is_native:
        raise S4EdgeError(f"{compiler} compiles for another machine; {path} is to run on this one")
    folder = _cache()
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="s4edge-") as passing:
            made = Path(passing, f"{path.stem}.so")
            compile_library(path, made, compiler)
            yield made
        return
    made = folder / f"{_digest(path, header, compiler)}.so"
    if not made.exists():
        compile_library(path, made, compiler)
        kept = sorted(folder.glob("*.so"), key=lambda each: each.stat().st_mtime)
        for old in kept[:-_MOST_KEPT]:
            with contextlib.suppress(OSError):  # gone since
                old.unlink()
    yield made


def _digest(path: Path, header: Path, compiler: Compiler) -> str:
    """Of all that makes a library what it is."""
    digest = hashlib.sha256(f"{compiler} {compiler.version} {_processor()}\n".encode())
    for file in (path, header):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:32]


def _processor() -> str:
    """What instructions there are, where the kernel tells: the cache may be on a shared disk."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.lower().startswith(("flags", "features")):
                return line
    return ""


def _cache() -> Path | None:
    """A folder of the user's own, made if need be."""
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(base) / "s4edge"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # nowhere, or nobody's home
        return None
    status = folder.stat()
    mine = status.st_uid == os.getuid() and not status.st_mode & 0o022
    return folder if mine and os.access(folder, os.W_OK) else None
