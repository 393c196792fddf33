"""Models on disk, opened by the backend that runs files of their kind."""

from __future__ import annotations

import contextlib
from pathlib import Path

from s4edge.errors import S4EdgeError
from s4edge.runtime.backends import backend_of
from s4edge.runtime.backends.base import Graph
from s4edge.runtime.description import GraphInfo


def read_info(path: Path | str) -> GraphInfo:
    """Read what a file says about itself. Raises S4EdgeError as `open_graph` does."""
    path = Path(path)
    return backend_of(path).read_info(path)


def open_graph(path: Path | str, threads: int = 1) -> Graph:
    """Open a model to be run on the CPU.

    Args:
        path: the file; its suffix tells the backend.
        threads: threads that one run may use.

    Raises:
        S4EdgeError: no such file, not of that kind, not written by s4edge or by a newer one, or it
            is not what its description promises.
    """
    if threads < 1:
        raise S4EdgeError(f"threads must be at least 1, not {threads}")
    path = Path(path)
    return backend_of(path).open_file(path, threads)


def newest_graph(folder: Path) -> Path | None:
    """Find the graph with a state in ``folder`` that s4edge wrote last.

    Files that s4edge did not write, or that cannot be read, are passed over.

    Returns:
        The file, or None if there is none.

    Raises:
        S4EdgeError: there are graphs, and what runs them is not installed.
    """
    candidates = []
    # A C file takes a compiler: its library, if it has one, is newer.
    for suffix in (".onnx", ".so"):
        for path in Path(folder).glob(f"*{suffix}"):
            try:
                candidates.append((path.stat().st_mtime_ns, path))
            except OSError:  # gone since, or a dangling link
                continue
    for _, path in sorted(candidates, reverse=True):
        backend = backend_of(path)
        with contextlib.suppress(S4EdgeError):
            if backend.read_info(path).streams:
                return path
    return None
