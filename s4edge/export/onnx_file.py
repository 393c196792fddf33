"""An exported graph as a file, checked against the model it came from before it gets its name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

import s4edge
from s4edge.errors import S4EdgeError
from s4edge.export.builder import OPSET
from s4edge.export.step_graph import step_graph
from s4edge.files import replacing
from s4edge.model.sequence_model import SequenceModel
from s4edge.runtime import Stream, open_graph

FORMAT = 1
MODES: dict[str, Callable[[SequenceModel], onnx.ModelProto]] = {"step": step_graph}

# A graph further from its model than this, relative to the largest output, is not written.
TOLERANCE = 1e-3
_CHECK_BATCH = 2
# As long as the slowest pole remembers, within these.
_FEWEST_SAMPLES, _MOST_SAMPLES = 256, 4096


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        output: the file.
        mode: "step".
        samples_per_run: samples that one run of the graph takes.
        nodes: operators in the graph.
        state_floats: width of the packed state.
        bytes: size of the file.
        opset: of the standard operators.
        max_abs_error: largest difference between the graph, streamed over random samples, and the
            model's convolution in float64.
        max_abs_output: the largest output there, to compare it with.
    """

    output: Path
    mode: str
    samples_per_run: int
    nodes: int
    state_floats: int
    bytes: int
    opset: int
    max_abs_error: float
    max_abs_output: float

    def to_json(self) -> dict[str, Any]:
        """The keys of ``s4edge export --json``."""
        return {**self.__dict__, "output": str(self.output)}


def export_model(model: SequenceModel, path: str | Path, mode: str = "step") -> Exported:
    """Write a model as an ONNX graph and check it against the model.

    Args:
        model: see `s4edge.model`.
        path: the file to write; replaced as a whole.
        mode: a key of `MODES`.

    Raises:
        S4EdgeError: the mode is unknown, the model cannot run that way, the file cannot be
            written, or the graph does not agree with the model.
    """
    if mode not in MODES:
        raise S4EdgeError(f"mode {mode!r} is unknown; known: {', '.join(MODES)}")
    path = Path(path)
    graph = MODES[mode](model)
    state_floats = graph.graph.input[1].type.tensor_type.shape.dim[1].dim_value
    _describe(graph, model, mode, state_floats)
    onnx.checker.check_model(graph, full_check=True)
    with replacing(path) as temporary:
        try:
            onnx.save(graph, temporary)
        except (OSError, ValueError) as error:
            raise S4EdgeError(f"cannot write {path}: {error}") from error
        difference, largest = _compare(model, temporary)
        if not difference <= TOLERANCE * largest:
            raise S4EdgeError(
                f"the graph differs from the model by {difference:.3g} where outputs reach "
                f"{largest:.3g}: it is not written. The model has modes too slow or too large for "
                "float32"
            )
    return Exported(
        output=path,
        mode=mode,
        samples_per_run=1,
        nodes=len(graph.graph.node),
        state_floats=state_floats,
        bytes=path.stat().st_size,
        opset=OPSET,
        max_abs_error=difference,
        max_abs_output=largest,
    )


def _describe(graph: onnx.ModelProto, model: SequenceModel, mode: str, state_floats: int) -> None:
    """Put the description that `s4edge.runtime` reads into the graph's metadata."""
    config = model.config
    sizes = {block.systems.state_size for block in config.blocks}
    description = {
        "format": FORMAT,
        "version": s4edge.__version__,
        "mode": mode,
        "samples_per_run": 1,
        "d_input": config.d_input,
        "d_output": config.d_output,
        "state_floats": state_floats,
        "pooling": config.pooling,
        "length": config.length,
        "source": model.provenance.source,
        "state_size": sizes.pop() if len(sizes) == 1 else None,
        "real_states": config.real_states,
    }
    onnx.helper.set_model_props(graph, {"s4edge": json.dumps(description)})


def _compare(model: SequenceModel, path: Path) -> tuple[float, float]:
    """Largest difference of the streamed graph to the model, and largest output, on white noise."""
    config = model.config
    samples = config.length or _samples_to_check(model)
    x = np.random.default_rng(0).standard_normal((_CHECK_BATCH, samples, config.d_input))
    x = x.astype(np.float32)
    stream = Stream(open_graph(path), batch=_CHECK_BATCH)
    streamed = np.stack([stream.step(x[:, t]).copy() for t in range(samples)], axis=1)
    dtype = next(model.parameters()).dtype
    with torch.no_grad():
        expected = model.double().running(torch.from_numpy(x).double()).numpy()
    model.to(dtype)
    return float(np.abs(streamed - expected).max()), float(np.abs(expected).max())


def _samples_to_check(model: SequenceModel) -> int:
    slowest = max(block.systems.modes().log_pole.real.max(initial=-1) for block in model.blocks)
    return int(np.clip(-3 / slowest, _FEWEST_SAMPLES, _MOST_SAMPLES))
