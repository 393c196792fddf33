"""What runs on the board: graphs, streams, sources, answers. Needs numpy and what runs the graphs.

What a stream needs is imported at once, the rest when its name is first used: a program that only
streams starts sooner and takes some MB less. What runs a graph is imported when one is opened.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from s4edge.runtime.backends.base import Graph
from s4edge.runtime.description import GraphInfo
from s4edge.runtime.graph import newest_graph, open_graph, read_info
from s4edge.runtime.predict import predict
from s4edge.runtime.stream import Stream

if TYPE_CHECKING:
    from s4edge.runtime.answers import Answer, StreamRun, run_stream
    from s4edge.runtime.sources import Source, open_source

# Of names that are imported later, by module; none of these is called as a name in it.
_LATER = {
    "s4edge.runtime.answers": ("Answer", "StreamRun", "run_stream"),
    "s4edge.runtime.sources": ("Source", "open_source"),
}

__all__ = [
    "Answer",
    "Graph",
    "GraphInfo",
    "Source",
    "Stream",
    "StreamRun",
    "newest_graph",
    "open_graph",
    "open_source",
    "predict",
    "read_info",
    "run_stream",
]


def __getattr__(name: str) -> Any:
    for module, names in _LATER.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 's4edge.runtime' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
