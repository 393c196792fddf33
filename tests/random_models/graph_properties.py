"""What holds of the graphs of every model: each takes a `RandomGraph` and asserts."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from model_properties import SINGLE, assert_close, assert_one_line, reference
from model_strategies import RandomModel, random_models
from naive_model import Naive

import s4edge
from s4edge import S4EdgeError
from s4edge.export import lowering
from s4edge.export.lowering import reference as lowered
from s4edge.model.sequence_model import SequenceModel
from s4edge.runtime import Stream, open_graph, predict

# What a graph may lose, relative to what float32 may: half of the weights' digits, or bytes.
_HALVES, _BYTES = 2e-3, 0.5


@dataclass(frozen=True)
class RandomGraph:
    """How a model is exported.

    Attributes:
        drawn: the model.
        mode: of the graph.
        chunk: samples of a chunk, for that mode.
        precision: of the graph.
        batch: sequences side by side.
        fixed: whether the graph takes so many and no other number.
    """

    drawn: RandomModel
    mode: str
    chunk: int | None
    precision: str
    batch: int
    fixed: bool


@st.composite
def random_graphs(
    draw: st.DrawFn, streams: bool | None = True, precisions: tuple[str, ...] = ("fp32",)
) -> RandomGraph:
    """A model and how it is exported; ``streams=None`` for whole sequences of any model."""
    drawn = draw(random_models(streams=streams, slowest=1e-3, cancels=True))
    stride = drawn.config.stride
    modes = ["chunk", "chunk"] if stride > 1 else ["step", "chunk", "chunk"]
    mode = draw(st.sampled_from(modes)) if streams else "sequence"
    chunk = draw(st.none() | st.integers(1, 40)) if mode == "chunk" else None
    if chunk is not None:
        chunk += -chunk % stride
    return RandomGraph(
        drawn,
        mode,
        chunk,
        draw(st.sampled_from(precisions)),
        draw(st.integers(1, 3)),
        draw(st.booleans()) if streams else False,
    )


def check_graph(how: RandomGraph) -> None:
    """A graph gives what the model gives, whatever is left of the last chunk."""
    model, x = how.drawn.build(), how.drawn.inputs(batch=how.batch)
    naive = reference(model, x)
    exact = model.config.exact_samples
    if how.mode != "sequence" and exact is not None:
        x = x[:, :exact]
    assert_graph_computes(model, naive, x, how)


def allowed(naive: Naive, x: np.ndarray, relative: float, how: RandomGraph) -> float:
    """Rounding; where weights cancel, a thousand times as much of it is left."""
    return naive.tolerance(x, relative * (1e3 if how.drawn.numbers.cancels else 1))


def assert_graph_computes(
    model: SequenceModel, naive: Naive, x: np.ndarray, how: RandomGraph
) -> None:
    """Export, run on x and compare with what ``naive`` gives."""
    relative = {"fp32": SINGLE, "fp16": _HALVES, "int8": _BYTES}[how.precision]
    streams = how.mode != "sequence"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        try:
            told = s4edge.export_onnx(
                model, path, how.mode, chunk=how.chunk, precision=how.precision,
                batch=how.batch if how.fixed else None,
            )  # fmt: skip
        except S4EdgeError as refused:
            assert_one_line(refused, "differs from the model", "amplify rounding")
            noise = how.drawn.inputs(samples=model.config.length or 256)
            assert naive.tolerance(noise, SINGLE) > 3e-4 * np.abs(naive.running(noise)).max()
            return
        json.dumps(told.to_json(), allow_nan=False)
        assert told.bytes == path.stat().st_size
        graph = open_graph(path)
        tokens = model.config.encoder == "embedding"
        into = x if tokens else x.astype(np.float32)
        if streams:
            stream = Stream(graph, batch=how.batch)
            samples = into[..., None].astype(np.float32) if tokens else into
            half = samples.shape[1] // 2
            parts = [stream.extend(samples[:, :half]), stream.extend(samples[:, half:])]
            found = np.concatenate([*parts, stream.finish()], axis=1)
            wanted = naive.running(x)
        else:
            found, wanted = predict(graph, into), naive.answer(x)
        assert_close(found, wanted, allowed(naive, x, relative, how))
        if model.config.length is None and not streams:
            # One graph, any length: whole chunks, and what is left of them.
            for other in (1, 32, 67):
                # Whole strides, and as many as there are answers.
                strides = max(other // model.config.stride, model.config.answers or 1)
                longer = how.drawn.inputs(strides * model.config.stride, batch=1)
                into = longer if tokens else longer.astype(np.float32)
                found, wanted = predict(graph, into), naive.answer(longer)
                tolerance = allowed(naive, longer, relative, how)
                # Of a few samples a norm over time may make much of rounding.
                if tolerance <= relative**0.5 * np.abs(wanted).max():
                    assert_close(found, wanted, tolerance)


def check_refused_graph(how: RandomGraph) -> None:
    """A model without a recurrence: no step or chunk graph, in words that say why."""
    model = how.drawn.build()
    reason, stride = model.config.cannot_stream, model.config.stride
    if reason is None and stride == 1:
        return
    for mode, chunk in (("step", None), ("chunk", None if reason else stride + 1)):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            with pytest.raises(S4EdgeError) as refused:
                s4edge.export_onnx(model, path, mode, chunk=chunk)
            assert_one_line(refused.value, reason or f"answers once for {stride} samples")
            assert not path.exists()
    if reason is None:
        return
    with pytest.raises(S4EdgeError) as refused:
        lowering.lower(model)
    assert_one_line(refused.value, reason)


def check_lowering(drawn: RandomModel) -> None:
    """The stages that backends are written from give what the model gives."""
    model, x = drawn.build(), drawn.inputs()
    naive = reference(model, x)
    program = lowering.lower(model)
    exact = model.config.exact_samples
    x = x if exact is None else x[:, :exact]
    wanted = naive.running(x)
    half = x.shape[1] // 2
    for row, its in zip(x, wanted, strict=True):
        first, state = lowered.run(program, row[:half])
        second, _ = lowered.run(program, row[half:], state)
        assert_close(np.concatenate([first, second]), its, naive.tolerance(x, 1e-12))
