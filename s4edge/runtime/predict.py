"""Outputs of a graph over whole data, many sequences side by side."""

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
    x: Floats | npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64] | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Floats:
    """Run sequences from zero state: a step graph sample by sample, a sequence graph at once.

    Args:
        graph: an opened graph.
        x: (samples, length, d_input), or (samples, length) integer tokens.
        lengths: (samples,) samples that count in each sequence; all without it.
        progress: called with the fraction done.

    Returns:
        (samples, d_output): the output after each sequence's last sample, where the model pools
        over time; else (samples, length, d_output).

    Raises:
        S4EdgeError: ``x`` has another width, or a length for which the model is not exact.
    """
    info = graph.info
    x = _features(graph, x)
    samples, length, _ = x.shape
    last = np.full(samples, length) if lengths is None else lengths
    if info.length is not None and (last != info.length).any():
        raise S4EdgeError(
            f"{info.path} is exact for sequences of {info.length} samples only (DSS softmax), "
            f"the data has {int(last[last != info.length][0])}"
        )
    if info.exact_samples is not None and last.max() > info.exact_samples:
        raise S4EdgeError(
            f"{info.path} is exact for the first {info.exact_samples} samples (the model's kernels "
            f"are cut there), the data has {last.max()}; export it with --mode sequence"
        )
    if info.mode == "sequence":
        return _predict_at_once(graph, x, last, progress)
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


def _features(graph: Graph, x: Floats | npt.NDArray[np.int64]) -> Floats:
    """(samples, length, d_input) float32; tokens become floats."""
    info = graph.info
    if info.tokens is not None:
        if x.ndim != 2 or x.min() < 0 or x.max() >= info.tokens:
            raise S4EdgeError(
                f"{info.path} takes (samples, length) whole tokens from 0 to {info.tokens - 1}"
            )
        return x[..., None].astype(np.float32)
    if x.ndim != 3:
        raise S4EdgeError(f"{info.path} takes {info.d_input} features, the data holds tokens")
    if x.shape[2] != info.d_input:
        raise S4EdgeError(f"{info.path} takes {info.d_input} features, the data has {x.shape[2]}")
    return x.astype(np.float32, copy=False)


def _predict_at_once(
    graph: Graph,
    x: Floats,
    lengths: npt.NDArray[np.int64],
    progress: Callable[[float], None],
) -> Floats:
    """Sequences of one length together: a model that looks ahead must not see padding."""
    if graph.info.pooling == "none" and len(set(lengths.tolist())) > 1:
        raise S4EdgeError(
            f"{graph.info.path} gives an output per sample; sequences must be of one length"
        )
    outputs: Floats | None = None
    done = 0
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            (y,) = graph.session.run(["y"], {"x": np.ascontiguousarray(x[part, :length])})
            if outputs is None:
                outputs = np.zeros((len(x), *y.shape[1:]), np.float32)
            outputs[part] = y
            done += len(part)
            progress(done / len(x))
    assert outputs is not None
    return outputs
