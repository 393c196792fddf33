"""The same as the command line, in Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s4edge.checkpoints.read import read_checkpoint
from s4edge.model.file import load_model, read_description, save_model
from s4edge.model.sequence_model import SequenceModel
from s4edge.reduction.compress import compress_model

if TYPE_CHECKING:
    from torch import nn

    from s4edge.export.onnx_file import Exported
    from s4edge.live import ReplacedLayer
    from s4edge.training.data import Data
    from s4edge.training.metrics import Score


def load(path: str | Path, facts: Mapping[str, Any] | None = None) -> SequenceModel:
    """Read an upstream checkpoint or a compressed model.

    Args:
        path: a ``.pt``, ``.pth``, ``.ckpt`` or ``.safetensors`` file.
        facts: for checkpoints, what their tensors do not hold, by upstream's names
            (``{"prenorm": True}``); see ``provenance`` of the result for what was assumed.

    Returns:
        A torch module that takes (batch, length, d_input).

    Raises:
        S4EdgeError: the file cannot be read, or a fact is missing.
    """
    path = Path(path)
    if read_description(path) is not None:
        return load_model(path)
    return read_checkpoint(path, facts)


def save(model: SequenceModel, path: str | Path) -> None:
    """Write a model as ``.safetensors``. Raises S4EdgeError if the file cannot be written."""
    save_model(model, path)


def compress(
    model: SequenceModel,
    state: int,
    *,
    method: str = "balanced",
    progress: Callable[[float], None] = lambda fraction: None,
) -> SequenceModel:
    """A copy of a model with the smaller state size ``state``.

    See `s4edge.reduction.compress.compress_model` for arguments, errors raised and what the copy's
    ``provenance.history`` tells.
    """
    return compress_model(model, state, method, progress)


def compress_(
    module: nn.Module, state: int, facts: Mapping[str, Any] | None = None
) -> list[ReplacedLayer]:
    """Reduce the layers inside a torch module of one's own, in place. See `s4edge.live`."""
    from s4edge.live import compress_ as replace_layers

    return replace_layers(module, state, facts)


def export_onnx(model: SequenceModel, path: str | Path, mode: str = "step") -> Exported:
    """Write a model as an ONNX graph. See `s4edge.export.onnx_file.export_model`."""
    from s4edge.export.onnx_file import export_model

    return export_model(model, path, mode)


def evaluate(
    model: SequenceModel, data: Data, progress: Callable[[float], None] = lambda fraction: None
) -> Score:
    """Accuracy or error of a model on data. See `s4edge.training.evaluate.evaluate_model`."""
    from s4edge.training.evaluate import evaluate_model

    return evaluate_model(model, data, progress)
