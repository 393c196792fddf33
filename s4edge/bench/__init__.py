"""Measuring: processes, rounds, warnings, results; on this machine and on another.

Names are imported when first used: a worker needs few of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s4edge.bench.file import read_bench, write_bench
    from s4edge.bench.local import BenchFailedError, bench
    from s4edge.bench.machine.device import describe_device
    from s4edge.bench.machine.memory import peak_rss_bytes
    from s4edge.bench.results import BenchResult, GraphResult

_MODULES = {
    "BenchFailedError": "local",
    "BenchResult": "results",
    "GraphResult": "results",
    "bench": "local",
    "describe_device": "machine.device",
    "peak_rss_bytes": "machine.memory",
    "read_bench": "file",
    "write_bench": "file",
}

__all__ = [
    "BenchFailedError",
    "BenchResult",
    "GraphResult",
    "bench",
    "describe_device",
    "peak_rss_bytes",
    "read_bench",
    "write_bench",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 's4edge.bench' has no attribute {name!r}")
    return getattr(importlib.import_module(f"s4edge.bench.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
