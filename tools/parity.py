"""Graphs of the shipped examples, inputs, and the outputs here, to be compared elsewhere."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

import s4edge
from s4edge.export.onnx.precision import PRECISIONS
from s4edge.model.sequence_model import SequenceModel
from s4edge.runtime import open_graph

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
MODES = ("step", "chunk", "sequence")
CHUNK, SAMPLES = 8, 64
# Largest difference, relative to the largest output, that another processor may make. Bytes may
# round the other way where it adds in another order.
LIMITS = {"fp32": 1e-4, "fp16": 1e-4, "int8": 0.1}

# Runs where the outputs are compared, which has numpy and onnxruntime and nothing else:
# `python -c CHECK FOLDER` prints the version of onnxruntime and each graph's largest difference.
CHECK = """
import json, sys
from pathlib import Path
import numpy as np, onnxruntime
errors = {}
for path in sorted(Path(sys.argv[1]).glob("*.onnx")):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with np.load(path.with_suffix(".npz")) as held:
        x, y = held["x"], held["y"]
    feed = {port.name: port for port in session.get_inputs()}
    if "state" in feed:
        state, found = np.zeros((1, feed["state"].shape[1]), np.float32), []
        for part in x:
            answer, state = session.run(["y", "next_state"], {"x": part, "state": state})
            found.append(answer)
        found = np.stack(found)
    else:
        (found,) = session.run(["y"], {"x": x})
    errors[path.stem] = float(np.abs(found - y).max() / np.abs(y).max())
print(json.dumps([onnxruntime.__version__, errors]))
"""


def digit_models() -> dict[str, SequenceModel]:
    """The shipped digits model, and the same with an eighth of the states."""
    original = s4edge.load(EXAMPLES / "digits" / "model.pt")
    return {"state64": original, "state8": s4edge.compress(original, 8)}


def spoken_model() -> SequenceModel:
    """The shipped model of spoken digits."""
    return s4edge.load(EXAMPLES / "spoken_digits" / "model.safetensors")


def write_graphs(
    folder: Path,
    models: Mapping[str, SequenceModel],
    modes: Iterable[str] = MODES,
    precisions: Iterable[str] = PRECISIONS,
) -> None:
    """Graphs as ``NAME-MODE-PRECISION.onnx``, inputs and outputs beside them as ``.npz``.

    Of step graphs as JSON, too, for runtimes that are not Python's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    x = np.random.default_rng(0).random((1, SAMPLES, 1), dtype=np.float32)
    for (name, model), mode, precision in itertools.product(models.items(), modes, precisions):
        path = folder / f"{name}-{mode}-{precision}.onnx"
        s4edge.export_onnx(
            model, path, mode, precision=precision, chunk=CHUNK if mode == "chunk" else None
        )
        session = open_graph(path).session
        if mode == "sequence":
            runs, (y,) = x, session.run(["y"], {"x": x})
        else:
            runs = x[0, :, None] if mode == "step" else x.reshape(-1, 1, CHUNK, 1)
            state = np.zeros((1, session.get_inputs()[1].shape[1]), np.float32)
            found = []
            for part in runs:
                answer, state = session.run(["y", "next_state"], {"x": part, "state": state})
                found.append(answer)
            y = np.stack(found)
        np.savez(path.with_suffix(".npz"), x=runs, y=y)
        if mode == "step":
            width = session.get_inputs()[1].shape[1]
            path.with_suffix(".json").write_text(
                json.dumps({"x": runs.ravel().tolist(), "y": y.ravel().tolist(), "state": width})
            )


def worst(errors: Mapping[str, float], *words: str) -> float | None:
    """The largest difference of the graphs with these words in their names; None without any."""
    found = [error for name, error in errors.items() if set(words) <= set(name.split("-"))]
    # NaN, where a graph gives it, is worse than any number.
    return max(found, key=lambda error: (error != error, error)) if found else None


def too_far(errors: Mapping[str, float]) -> Sequence[str]:
    """The names of graphs that differ by more than `LIMITS`."""
    return [name for name, error in errors.items() if not error < LIMITS[name.split("-")[-1]]]
