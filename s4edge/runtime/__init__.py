"""What runs on the board: streaming, benchmarking, reports. Needs numpy and onnxruntime only."""

from __future__ import annotations

from s4edge.runtime.answers import Answer, StreamRun, run_stream
from s4edge.runtime.bench import BenchFailedError, bench
from s4edge.runtime.bench_file import read_bench, write_bench
from s4edge.runtime.device import describe_device
from s4edge.runtime.graph import Graph, GraphInfo, newest_graph, open_graph, read_info
from s4edge.runtime.memory import peak_rss_bytes
from s4edge.runtime.predict import predict
from s4edge.runtime.results import BenchResult, GraphResult
from s4edge.runtime.sources import Source, open_source
from s4edge.runtime.stream import Stream

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
