"""The same as the command line, in Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from s4edge.compression.compress import compress_model
from s4edge.compression.steps import Step, apply_steps
from s4edge.errors import S4EdgeError
from s4edge.model.file import save_model
from s4edge.model.sequence_model import SequenceModel
from s4edge.workflows import inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from s4edge.data.dataset import Data
    from s4edge.data.metrics import Score
    from s4edge.export.c.c_file import ExportedC
    from s4edge.export.onnx.onnx_file import Exported
    from s4edge.workflows.in_place import ReplacedLayer


def load(path: str | Path, facts: Mapping[str, Any] | None = None) -> SequenceModel:
    """Read an upstream checkpoint or a compressed model.

    Args:
        path: a ``.pt``, ``.pth``, ``.ckpt`` or ``.safetensors`` file, or a hub's model folder
            (``config.json`` beside ``model.safetensors``).
        facts: for checkpoints, what their tensors do not hold, by upstream's names
            (``{"prenorm": True}``); see ``provenance`` of the result for what was assumed.

    Returns:
        A torch module that takes (batch, length, d_input).

    Raises:
        S4EdgeError: the file cannot be read, or a fact is missing.
    """
    return inputs.load(Path(path), facts)


def save(model: SequenceModel, path: str | Path) -> None:
    """Write a model as ``.safetensors``. Raises S4EdgeError if the file cannot be written."""
    save_model(model, path)


def compress(
    model: SequenceModel,
    state: int | None = None,
    *,
    steps: Sequence[Step] | None = None,
    method: str = "balanced",
    calibration: Data | NDArray[Any] | Tensor | None = None,
    allocate: str = "uniform",
    tolerance: float | None = None,
    rate: Sequence[int] | Literal["auto"] | None = None,
    macs: int | None = None,
    refine: bool | None = None,
    horizon: int | None = None,
    memory: int | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> SequenceModel:
    """A copy of a model with the smaller state size ``state``, or compressed step by step.

    Args:
        model: left as it is.
        state: see `s4edge.compression.states.step` for this and what is not told here, for errors
            raised and what the copy's ``provenance.history`` tells.
        steps: instead of all other arguments but ``calibration``: configurations of steps in order,
            such as ``[ReduceStates(16)]``; see `s4edge.compression.steps`.
        method: a key of `s4edge.compression.states.methods.registry.METHODS`.
        calibration: sequences as the model takes them, (samples, length, d_input) or tokens; no
            labels are used.
        allocate: "uniform" or "sensitivity".
        tolerance: instead of ``state``.
        rate: strides behind layers, or one more, the first of them at the input; "auto" chooses by
            error on the calibration data for work saved. With or without a state size.
        macs: with "auto", multiply-adds per sample to get down to.
        refine: None for wherever it helps.
        horizon: samples for which kernels are used.
        memory: bytes that calibration may take beside model and data; None for half of what is
            free.
        progress: called with the fraction done.
    """
    chosen = None if calibration is None else inputs.calibration_of(model, calibration, memory)
    if steps is not None:
        if state is not None or tolerance is not None or rate is not None:
            raise S4EdgeError("give either steps or a state size or a tolerance")
        return apply_steps(model, steps, chosen, progress).model
    return compress_model(
        model, state, method, chosen, allocate, tolerance, refine, horizon, progress, rate, macs
    )


def compress_(
    module: nn.Module, state: int, facts: Mapping[str, Any] | None = None
) -> list[ReplacedLayer]:
    """Reduce the layers inside a torch module of one's own, in place.

    See `s4edge.workflows.in_place`.
    """
    from s4edge.workflows.in_place import compress_ as replace_layers

    return replace_layers(module, state, facts)


def export_onnx(
    model: SequenceModel,
    path: str | Path,
    mode: str = "step",
    *,
    chunk: int | None = None,
    precision: str = "fp32",
    data: Data | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
    rate: float | None = None,
    batch: int | None = None,
) -> Exported:
    """Write a model as an ONNX graph. See `s4edge.export.onnx.onnx_file.export_model`."""
    from s4edge.export.onnx.onnx_file import export_model

    return export_model(model, path, mode, chunk, precision, data, progress, rate, batch)


def export_c(
    model: SequenceModel,
    path: str | Path,
    *,
    chunk: int | None = None,
    precision: str = "fp32",
    compiler: str | None = None,
    compiled: bool = False,
    rate: float | None = None,
    packages: Sequence[str] = (),
) -> ExportedC:
    """Write a model as C. See `s4edge.export.c.c_file.export_c`."""
    from s4edge.export.c import c_file

    return c_file.export_c(model, path, chunk, precision, compiler, compiled, rate, packages)


def evaluate(
    model: SequenceModel, data: Data, progress: Callable[[float], None] = lambda fraction: None
) -> Score:
    """Accuracy or error of a model on data. See `s4edge.training.evaluate.evaluate_model`."""
    from s4edge.training.evaluate import evaluate_model

    return evaluate_model(model, data, progress)
