"""What runs on the board: streaming, benchmarking, reports. Needs numpy and onnxruntime only."""

from __future__ import annotations

from s4edge.runtime.bench import BenchResult, GraphResult, bench
from s4edge.runtime.device import describe_device
from s4edge.runtime.graph import Graph, GraphInfo, newest_graph, open_graph, read_info
from s4edge.runtime.memory import peak_rss_bytes
from s4edge.runtime.predict import predict
from s4edge.runtime.stream import Stream

__all__ = [
    "BenchResult",
    "Graph",
    "GraphInfo",
    "GraphResult",
    "Stream",
    "bench",
    "describe_device",
    "newest_graph",
    "open_graph",
    "peak_rss_bytes",
    "predict",
    "read_info",
]
