"""An exported graph as a file, checked against the model it came from before it gets its name."""

from __future__ import annotations

import copy
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
from s4edge.export.sequence_graph import sequence_graph
from s4edge.export.step_graph import step_graph
from s4edge.files import replacing
from s4edge.model.sequence_model import SequenceModel
from s4edge.runtime import Stream, open_graph, predict

FORMAT = 1
MODES: dict[str, Callable[[SequenceModel], onnx.ModelProto]] = {
    "step": step_graph,
    "sequence": sequence_graph,
}

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
    description = _describe(graph, model, mode)
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
        samples_per_run=description["samples_per_run"],
        nodes=len(graph.graph.node),
        state_floats=description["state_floats"],
        bytes=path.stat().st_size,
        opset=OPSET,
        max_abs_error=difference,
        max_abs_output=largest,
        exact_samples=description["exact_samples"],
    )


def _describe(graph: onnx.ModelProto, model: SequenceModel, mode: str) -> dict[str, Any]:
    """Put the description that `s4edge.runtime` reads into the graph's metadata."""
    config = model.config
    sizes = {b.systems.state_size for b in config.blocks if b.systems.real_states}
    step = mode == "step"
    inputs = {value.name: value.type.tensor_type.shape.dim for value in graph.graph.input}
    description = {
        "format": FORMAT,
        "version": s4edge.__version__,
        "mode": mode,
        "samples_per_run": 1 if step else None,
        "d_input": inputs["x"][-1].dim_value,
        "d_output": config.d_output,
        "tokens": config.d_input if config.encoder == "embedding" else None,
        "state_floats": inputs["state"][1].dim_value if step else 0,
        "pooling": config.pooling,
        "length": config.length,
        "exact_samples": config.exact_samples if step else None,
        "source": model.provenance.source,
        "state_size": sizes.pop() if len(sizes) == 1 else None,
        "real_states": config.real_states,
    }
    onnx.helper.set_model_props(graph, {"s4edge": json.dumps(description)})
    return description


def _compare(model: SequenceModel, path: Path) -> tuple[float, float]:
    """Largest difference of the graph to the model in float64, and largest output.

    On white noise, or random tokens.
    """
    config = model.config
    rng = np.random.default_rng(0)
    graph = open_graph(path)
    samples = config.length or _samples_to_check(model, graph.info.mode)
    reference = copy.deepcopy(model).double()
    if config.encoder == "embedding":
        tokens = rng.integers(0, config.d_input, (_CHECK_BATCH, samples))
        x, into = tokens[..., None].astype(np.float32), torch.from_numpy(tokens)
    else:
        shape = (_CHECK_BATCH, samples, config.d_input)
        x = rng.standard_normal(shape).astype(np.float32)
        into = torch.from_numpy(x).double()
        into = into.mT if config.channels_first else into
    with torch.no_grad():
        if graph.info.mode == "step":
            stream = Stream(graph, batch=_CHECK_BATCH)
            got = np.stack([stream.step(x[:, t]).copy() for t in range(samples)], axis=1)
            wanted = reference.running(into)
        else:
            got = predict(graph, tokens if config.encoder == "embedding" else x)
            wanted = reference(into)
    expected = (wanted.mT if config.channels_first else wanted).numpy()
    return float(np.abs(got - expected).max()), float(np.abs(expected).max())


def _samples_to_check(model: SequenceModel, mode: str) -> int:
    """As many as the slowest pole remembers, within bounds; past a cut of kernels if that holds."""
    slowest = max(block.systems.modes().log_pole.real.max(initial=-1) for block in model.blocks)
    samples = int(np.clip(-3 / slowest, _FEWEST_SAMPLES, _MOST_SAMPLES))
    exact = model.config.exact_samples
    if exact is None:
        return samples
    return min(samples, exact) if mode == "step" else min(2 * exact, _MOST_SAMPLES)
