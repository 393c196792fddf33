"""What runs on the board: streaming, benchmarking, reports. Needs numpy and onnxruntime only.

What a stream needs is imported at once, the rest when its name is first used: a program that only
streams starts sooner and takes some MB less.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from s4edge.runtime.graph import Graph, GraphInfo, newest_graph, open_graph, read_info
from s4edge.runtime.predict import predict
from s4edge.runtime.stream import Stream

if TYPE_CHECKING:
    from s4edge.bench.file import read_bench, write_bench
    from s4edge.bench.local import BenchFailedError, bench
    from s4edge.bench.machine.device import describe_device
    from s4edge.bench.machine.memory import peak_rss_bytes
    from s4edge.bench.results import BenchResult, GraphResult
    from s4edge.runtime.answers import Answer, StreamRun, run_stream
    from s4edge.runtime.sources import Source, open_source

# Of names that are imported later, by module; none of these is called as a name in it.
_LATER = {
    "s4edge.runtime.answers": ("Answer", "StreamRun", "run_stream"),
    "s4edge.bench.file": ("read_bench", "write_bench"),
    "s4edge.bench.local": ("BenchFailedError", "bench"),
    "s4edge.bench.machine.device": ("describe_device",),
    "s4edge.bench.machine.memory": ("peak_rss_bytes",),
    "s4edge.bench.results": ("BenchResult", "GraphResult"),
    "s4edge.runtime.sources": ("Source", "open_source"),
}

__all__ = [
    "Answer",
    "BenchFailedError",
    "BenchResult",
    "Graph",
    "GraphInfo",
    "GraphResult",
    "Source",
    "Stream",
    "StreamRun",
    "bench",
    "describe_device",
    "newest_graph",
    "open_graph",
    "open_source",
    "peak_rss_bytes",
    "predict",
    "read_bench",
    "read_info",
    "run_stream",
    "write_bench",
]


def __getattr__(name: str) -> Any:
    for module, names in _LATER.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 's4edge.runtime' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
