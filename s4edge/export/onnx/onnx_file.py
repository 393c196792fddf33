"""An exported graph as a file, checked against the model it came from before it gets its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from s4edge.data.dataset import Data
from s4edge.data.metrics import Score, require_targets, score
from s4edge.errors import S4EdgeError
from s4edge.export.checking import COARSE_TOLERANCE, TOLERANCE, Wanted, wanted_of
from s4edge.export.description import describe
from s4edge.export.lowering import lower, lower_sequences
from s4edge.export.lowering.program import Program
from s4edge.export.onnx.activation_ranges import activation_ranges
from s4edge.export.onnx.chunk_graph import choose_chunk, chunk_graph, matrix_bytes
from s4edge.export.onnx.fixed_batch import with_fixed_batch
from s4edge.export.onnx.head_graph import write_head
from s4edge.export.onnx.precision import PRECISIONS, with_half_weights, with_int8_layers
from s4edge.export.onnx.sequence_graph import sequence_graph
from s4edge.export.onnx.step_graph import step_graph
from s4edge.files import replacing
from s4edge.model.sequence_model import SequenceModel
from s4edge.runtime import Stream, open_graph, predict
from s4edge.runtime.backends.onnx import METADATA_KEY
from s4edge.runtime.description import Description
from s4edge.runtime.predict import side_by_side
from s4edge.systems.cancellation import LARGEST_CANCELLATION, cancellation

MODES = ("step", "chunk", "sequence")


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        output: the file.
        mode: a key of `MODES`.
        samples_per_run: samples that one run of the graph takes; None for any number.
        nodes: operators in the graph.
        state_floats: width of the packed state; 0 where there is none.
        bytes: size of the file.
        opset: of the standard operators.
        max_abs_error: largest difference between the graph on random samples (a step graph
            streamed over them) and the model's convolution in float64.
        max_abs_output: the largest output there, to compare it with.
        exact_samples: samples after which the model's kernels are cut and a streamed graph's are
            not; None for any number.
        rate: samples per second that the graph says it expects, or None.
        precision: a member of `s4edge.export.onnx.precision.PRECISIONS`.
        matrix_bytes: of a chunk graph, bytes of the kernels and of the matrices between chunks and
            states, as a runtime holds them.
        activations: of an int8 graph, "calibrated" on the data or "dynamic".
        scores: on the data, of the float32 graph and of the one written; None without data.
        head: the file with the graph that compares two of its answers, where the model has such a
            head.
        batch: sequences that the graph takes side by side; None for any number.
    """

    output: Path
    mode: str
    samples_per_run: int | None
    nodes: int
    state_floats: int
    bytes: int
    opset: int
    max_abs_error: float
    max_abs_output: float
    exact_samples: int | None
    rate: float | None
    precision: str
    matrix_bytes: int | None
    activations: str | None
    scores: tuple[Score, Score] | None
    head: Path | None = None
    batch: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The keys of ``s4edge export --json``."""
        answer = {**self.__dict__, "output": str(self.output)}
        scores, head = answer.pop("scores"), answer.pop("head")
        if head is not None:
            answer["head"] = str(head)
        if scores is not None:
            before, after = scores
            answer |= {"metric": after.metric, "samples": after.samples}
            answer["value"] = {"before": before.value, "after": after.value}
        return answer


def export_model(
    model: SequenceModel,
    path: str | Path,
    mode: str = "step",
    chunk: int | None = None,
    precision: str = "fp32",
    data: Data | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
    rate: float | None = None,
    batch: int | None = None,
) -> Exported:
    """Write a model as an ONNX graph and check it against the model.

    Args:
        model: see `s4edge.model`.
        path: the file to write; replaced as a whole.
        mode: one of `MODES`.
        chunk: samples per run of a chunk graph; None to choose.
        precision: one of `s4edge.export.onnx.precision.PRECISIONS`.
        data: with labels or targets, to measure what the graph loses to its precision, and for
            int8 to calibrate the ranges of activations on where that is better than finding them
            at every run.
        progress: called with the fraction done.
        rate: samples per second of what the model was trained on, for `s4edge run` to hold
            recordings to.
        batch: sequences that a step or chunk graph takes side by side; None for any number. With
            one it has no operator and no size that small converters refuse.

    Raises:
        S4EdgeError: an argument is unknown, the model cannot run that way, the file cannot be
            written, the data does not fit, or the graph does not agree with the model.
    """
    if mode not in MODES:
        raise S4EdgeError(f"mode {mode!r} is unknown; known: {', '.join(MODES)}")
    if precision not in PRECISIONS:
        raise S4EdgeError(f"precision {precision!r} is unknown; known: {', '.join(PRECISIONS)}")
    if chunk is not None and (mode != "chunk" or chunk < 1):
        raise S4EdgeError(
            f"chunk must be at least 1, not {chunk}" if mode == "chunk"
            else f"a {mode} graph has no chunks; ask for mode chunk"
        )  # fmt: skip
    if rate is not None and not 0 < rate < 1e12:
        raise S4EdgeError(f"rate must be a positive number of samples per second, not {rate:g}")
    if batch is not None and (mode == "sequence" or batch < 1):
        raise S4EdgeError(
            f"batch must be at least 1, not {batch}" if mode != "sequence"
            else "a sequence graph takes any number of sequences; ask for mode step or chunk"
        )  # fmt: skip
    path = Path(path)
    program = lowered(model, mode)
    if mode == "chunk":
        chunk = chunk or choose_chunk(program)
    tolerance = TOLERANCE if precision == "fp32" else COARSE_TOLERANCE
    # States in float64 cost time: only where float32 has been seen not to do, and not where what is
    # lost is lost elsewhere.
    widths = (False, True) if precision == "fp32" or _cancels(program) else (False,)
    wanted = wanted_of(model, over_sequences=mode == "sequence")
    with replacing(path) as temporary:
        for wide in widths:
            graph = _graph(program, mode, chunk, wide)
            if batch is not None:
                graph = with_fixed_batch(graph, batch)
            description = _describe(graph, model, mode, chunk, rate)
            onnx.checker.check_model(ir.to_proto(graph), full_check=True)
            chosen, activations, scores = _reduced(graph, precision, data, temporary, progress)
            _save(chosen, temporary, path)
            difference = _difference(temporary, wanted)
            if difference <= tolerance * wanted.largest:
                break
        else:
            raise S4EdgeError(
                f"the graph differs from the model by {difference:.3g} where outputs reach "
                f"{wanted.largest:.3g}: it is not written. {_remedy(model, precision)}"
            )
        head = None if model.head is None else write_head(model.head, path, batch)
    return Exported(
        output=path,
        mode=mode,
        samples_per_run=description.samples_per_run,
        nodes=len(chosen.graph),
        state_floats=description.state_floats,
        bytes=path.stat().st_size,
        opset=chosen.opset_imports[""],
        max_abs_error=difference,
        max_abs_output=wanted.largest,
        exact_samples=description.exact_samples,
        rate=rate,
        precision=precision,
        matrix_bytes=None if chunk is None else matrix_bytes(program, chunk, wide),
        activations=activations,
        scores=scores,
        head=head,
        batch=batch,
    )


def lowered(model: SequenceModel, mode: str) -> Program:
    """What a graph of a mode computes. Raises S4EdgeError where the model cannot run that way."""
    if mode == "sequence":
        return lower_sequences(model)
    if model.config.cannot_stream is not None:
        raise S4EdgeError(f"no {mode} graph can be written: {model.config.cannot_stream}")
    return lower(model)


def _graph(program: Program, mode: str, chunk: int | None, wide: bool) -> ir.Model:
    if mode == "chunk":
        assert chunk is not None
        return chunk_graph(program, chunk, wide)
    return step_graph(program, wide) if mode == "step" else sequence_graph(program, wide)


def _cancels(program: Program) -> bool:
    """Whether weights cancel so much that float32 may spoil a recurrence."""
    return any(cancellation(each.modes) > LARGEST_CANCELLATION for _, each in program.systems)


def _remedy(model: SequenceModel, precision: str) -> str:
    if precision != "fp32":
        return f"Its weights are too coarse in {precision}; export it with --precision fp32"
    half = max(2, 2 * int(model.config.largest_state_size / 4))
    return (
        "The model has modes too slow or too large for float32, even with states in float64, or "
        "norms of almost constant features, which amplify rounding; with fewer states it may not: "
        f"s4edge compress MODEL --state {half}, and export that"
    )


def _save(graph: ir.Model, temporary: Path, path: Path) -> None:
    try:
        onnx.save(ir.to_proto(graph), temporary)
    except (OSError, ValueError) as error:
        raise S4EdgeError(f"cannot write {path}: {error}") from error


def _reduced(
    graph: ir.Model,
    precision: str,
    data: Data | None,
    scratch: Path,
    progress: Callable[[float], None],
) -> tuple[ir.Model, str | None, tuple[Score, Score] | None]:
    """The graph in a precision, how its activations are quantized, and scores before and after."""
    if data is None:
        if precision == "int8":
            return with_int8_layers(graph), "dynamic", None
        return graph if precision == "fp32" else with_half_weights(graph), None, None
    require_targets(data)
    _save(graph, scratch, scratch)
    opened = open_graph(scratch)
    outputs = [predict(opened, data.x, data.lengths)]
    options: dict[str | None, ir.Model] = {None: graph}
    if precision == "fp16":
        options = {None: with_half_weights(graph)}
    if precision == "int8":
        ranges = activation_ranges(graph, opened, data)
        options = {
            "dynamic": with_int8_layers(graph), "calibrated": with_int8_layers(graph, ranges)
        }  # fmt: skip
    for done, option in enumerate(options.values()):
        progress((done + 1) / (len(options) + 1))
        _save(option, scratch, scratch)
        outputs.append(predict(open_graph(scratch), data.x, data.lengths))
    before, *after = (score(each, data) for each in outputs)
    sign = -1 if before.metric == "accuracy" else 1
    # The better score; of equal ones, the outputs nearest to those before.
    errors = [float(np.square(each - outputs[0]).mean()) for each in outputs[1:]]
    ranked = sorted(zip(options, after, errors, strict=True),
                    key=lambda each: (sign * each[1].value, each[2]))  # fmt: skip
    kind, best, _ = ranked[0]
    return options[kind], kind, (before, best)


def _describe(
    graph: ir.Model, model: SequenceModel, mode: str, chunk: int | None, rate: float | None
) -> Description:
    """Put its description into the graph's metadata."""
    widths = {value.name: value.shape[-1] for value in graph.graph.inputs if value.shape}
    d_input, state_floats = widths["x"], widths.get("state", 0)
    assert isinstance(d_input, int)
    assert isinstance(state_floats, int)
    description = describe(
        model,
        mode=mode,
        samples_per_run=1 if mode == "step" else chunk,
        d_input=d_input,
        state_floats=state_floats,
        rate=rate,
    )
    graph.metadata_props[METADATA_KEY] = description.to_json()
    return description


def _difference(path: Path, wanted: Wanted) -> float:
    """Largest difference of the graph to the model."""
    graph = open_graph(path)
    if graph.info.streams:
        parts = []
        for rows, x in side_by_side(graph, wanted.samples):
            stream = Stream(graph, batch=len(x))
            y = np.concatenate([stream.extend(x), stream.finish()], axis=1)
            parts.append(y[: rows.stop - rows.start])
        got = np.concatenate(parts)
    else:
        got = predict(graph, wanted.x)
    return float(np.abs(got - wanted.y).max())
