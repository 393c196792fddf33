"""The ranges of what dense layers read, measured on data."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper

from s4edge.data.dataset import Data
from s4edge.errors import S4EdgeError
from s4edge.export.onnx.precision import dense_inputs
from s4edge.runtime import Graph
from s4edge.runtime.backends.onnx import in_memory
from s4edge.runtime.predict import features, side_by_side

# Sequences to measure on, evenly chosen, and samples of each.
_SEQUENCES, _SAMPLES = 64, 4096


def activation_ranges(model: ir.Model, graph: Graph, data: Data) -> dict[str, tuple[float, float]]:
    """Least and largest of each of `s4edge.export.onnx.precision.dense_inputs`.

    Args:
        model: of `s4edge.export`, in float32.
        graph: the same, opened.
        data: sequences as the model takes them.

    Raises:
        S4EdgeError: the graph does not take the data, or makes numbers of it that are not finite.
    """
    names = dense_inputs(model)
    inner = [name for name in names if name != "x"]
    watched = ir.to_proto(model)
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inner
    )
    compute = in_memory(watched.SerializeToString())
    info = graph.info
    chosen = np.unique(np.linspace(0, len(data) - 1, _SEQUENCES).astype(int))
    x = features(graph, data.x[chosen])[:, :_SAMPLES]
    run = info.samples_per_run or x.shape[1]
    x = np.pad(x, ((0, 0), (0, -x.shape[1] % run), (0, 0)), mode="edge")
    outputs = [*(["next_state"] if info.streams else []), *inner]
    least, largest = dict.fromkeys(names, np.inf), dict.fromkeys(names, -np.inf)
    for _, rows in side_by_side(graph, x):
        states = {}
        if info.streams:
            states["state"] = np.zeros((len(rows), info.state_floats), np.float32)
        for start in range(0, x.shape[1], run):
            part = rows[:, start] if info.mode == "step" else rows[:, start : start + run]
            found = dict(zip(outputs, compute(outputs, {"x": part, **states}), strict=True))
            states = {"state": found["next_state"]} if states else {}
            for name in names:
                values = found.get(name, part)
                least[name] = min(least[name], float(values.min()))
                largest[name] = max(largest[name], float(values.max()))
    if not np.isfinite([*least.values(), *largest.values()]).all():
        raise S4EdgeError(f"{data.source} makes numbers in the model that are not finite")
    return {name: (least[name], largest[name]) for name in names}
