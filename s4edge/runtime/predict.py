"""Outputs of a model over whole data, many sequences side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from s4edge.arrays import Int, Single
from s4edge.errors import S4EdgeError
from s4edge.runtime.backends.base import Graph
from s4edge.runtime.stream import Stream

_BATCH = 250
# From one look at the progress to the next.
_RUNS = 64


def predict(
    graph: Graph,
    x: Single | Int,
    lengths: Int | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Single:
    """Run sequences from zero state: streamed, or through a sequence graph at once.

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
    x = features(graph, x)
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
    if not info.streams:
        return _predict_at_once(graph, x, last, progress)
    pools = info.pooling != "none"
    shape = (samples, info.d_output) if pools else (samples, length, info.d_output)
    outputs = np.zeros(shape, np.float32)
    block = _RUNS * (info.samples_per_run or 1)
    for rows, part in side_by_side(graph, x):
        count = rows.stop - rows.start
        stream = Stream(graph, len(part))
        for begin in range(0, length, block):
            y = stream.extend(part[:, begin : begin + block])
            if begin + block >= length:
                y = np.concatenate([y, stream.finish()], axis=1)
            y = y[:count]
            if pools:
                at = last[rows] - 1 - begin
                (ending,) = np.nonzero((at >= 0) & (at < y.shape[1]))
                outputs[rows][ending] = y[ending, at[ending]]
            else:
                outputs[rows, begin : begin + block] = y
            done = min(begin + block, length) / length
            progress((rows.start + count * done) / samples)
    return outputs


def side_by_side(graph: Graph, x: Single, most: int = _BATCH) -> Iterator[tuple[slice, Single]]:
    """Rows of sequences that a graph takes at once, and these sequences.

    Where it is fixed to a number of them, the last ones are filled up with the last one.
    """
    for start in range(0, len(x), graph.batch or most):
        rows = slice(start, min(start + (graph.batch or most), len(x)))
        missing = (graph.batch or 0) - (rows.stop - start)
        yield rows, np.concatenate([x[rows], np.repeat(x[-1:], max(missing, 0), axis=0)])


def features(graph: Graph, x: Single | Int) -> Single:
    """Sequences as a graph takes them, (samples, length, d_input) float32: tokens become floats.

    Raises:
        S4EdgeError: the graph takes sequences of another kind or width.
    """
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
    x: Single,
    lengths: Int,
    progress: Callable[[float], None],
) -> Single:
    """Sequences of one length together: a model that looks ahead must not see padding."""
    if graph.info.pooling == "none" and len(set(lengths.tolist())) > 1:
        raise S4EdgeError(
            f"{graph.info.path} gives an output per sample; sequences must be of one length"
        )
    outputs: Single | None = None
    done = 0
    for length in np.unique(lengths):
        rows = np.flatnonzero(lengths == length)
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            y = graph.run(x[part, :length])
            if outputs is None:
                outputs = np.zeros((len(x), *y.shape[1:]), np.float32)
            outputs[part] = y
            done += len(part)
            progress(done / len(x))
    assert outputs is not None
    return outputs
