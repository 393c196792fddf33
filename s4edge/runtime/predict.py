"""Outputs of a step graph over whole data, many sequences side by side."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from s4edge.errors import S4EdgeError
from s4edge.runtime.graph import Graph
from s4edge.runtime.stream import Stream

Floats = npt.NDArray[np.float32]

_BATCH = 250


def predict(
    graph: Graph,
    x: Floats,
    lengths: npt.NDArray[np.int64] | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Floats:
    """Stream sequences from zero state.

    Args:
        graph: an opened step graph.
        x: (samples, length, d_input).
        lengths: (samples,) samples that count in each sequence; all without it.
        progress: called with the fraction done.

    Returns:
        (samples, d_output): the output after each sequence's last sample, where the model pools
        over time; else (samples, length, d_output).

    Raises:
        S4EdgeError: ``x`` has another width, or a length for which the model is not exact.
    """
    info = graph.info
    samples, length, width = x.shape
    if width != info.d_input:
        raise S4EdgeError(f"{info.path} takes {info.d_input} features, the data has {width}")
    last = np.full(samples, length) if lengths is None else lengths
    if info.length is not None and (last != info.length).any():
        raise S4EdgeError(
            f"{info.path} is exact for sequences of {info.length} samples only (DSS softmax), "
            f"the data has {int(last[last != info.length][0])}"
        )
    pools = info.pooling != "none"
    shape = (samples, info.d_output) if pools else (samples, length, info.d_output)
    outputs = np.zeros(shape, np.float32)
    for start in range(0, samples, _BATCH):
        part = slice(start, min(start + _BATCH, samples))
        stream = Stream(graph, part.stop - part.start)
        for t in range(length):
            y = stream.step(x[part, t])
            if pools:
                ends = last[part] == t + 1
                outputs[part][ends] = y[ends]
            else:
                outputs[part, t] = y
            if t % 64 == 63:
                progress((start + (part.stop - start) * (t + 1) / length) / samples)
    return outputs
