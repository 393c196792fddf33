"""From a checkpoint file to its tensors and configuration, running nothing that the file holds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from s4edge.checkpoints.hub import is_index, read_shards
from s4edge.checkpoints.plain import plain
from s4edge.checkpoints.stored import TENSORS
from s4edge.checkpoints.torch_file import TorchFile, open_torch_file
from s4edge.errors import S4EdgeError
from s4edge.foreign import check_file

# Where training scripts put the state dict.
_STATE_DICT_KEYS = ("model", "state_dict", "model_state_dict")
# Where they put the running average of the weights, and where it lies in there.
_EMA_KEYS = ("state_dict_ema", "model_ema", "ema", "ema_state_dict", "ema_model")
_EMA_INNER_KEYS = (*_STATE_DICT_KEYS, "module", "shadow")
# The same as a part of a state dict: how its names begin, and those of the ordinary weights.
_EMA_PREFIXES = (("model_ema.", "model."), ("ema_model.", "model."), ("ema.", ""))
_TENSORS = (Tensor, *TENSORS)


@dataclass(frozen=True)
class Container:
    """What is in a checkpoint file.

    Attributes:
        tensors: the state dict.
        config: the configuration that Lightning saves (``hyper_parameters``), in plain values,
            interpolations as text; None if there is none.
        weights: "model", or "ema" for the running average of the weights.
        notes: what a person should know about the choice.
    """

    tensors: dict[str, Tensor]
    config: dict[str, Any] | None = None
    weights: str = "model"
    notes: tuple[str, ...] = ()


def read_container(path: Path, weights: str | None = None) -> Container:
    """Read a file of torch or of safetensors, or the shards that an index names.

    Args:
        path: the file.
        weights: "model" or "ema" (the running average of the weights), which must be there; None
            takes the first that is there.

    Raises:
        S4EdgeError: the file is missing, empty, truncated, needs code to be run, or holds no state
            dict.
    """
    if weights not in (None, "model", "ema"):
        raise S4EdgeError(f"{path}: weights={weights} cannot be read; supported: model, ema")
    if path.suffix == ".onnx" and os.path.isfile(path):
        raise S4EdgeError(f"{path} is a graph, no checkpoint: name the model it was exported from")
    check_file(
        path,
        "name the checkpoint file in it",
        ": the copy or download did not finish; fetch it again",
    )
    if is_index(path):
        return _choose(path, read_shards(path, _shard), weights)
    if path.suffix == ".safetensors":
        return _choose(path, _safetensors(path), weights)
    with open_torch_file(path) as file:
        return _choose(path, file.content, weights, file)


def _shard(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return _safetensors(path)
    with open_torch_file(path) as file:
        content = file.content if isinstance(file.content, dict) else None
        return _state_dict(path, content, file)


def _safetensors(path: Path) -> dict[str, Tensor]:
    """By name; of tensors that share memory the file holds one, and says which others it is."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            shared = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise S4EdgeError(
            f"{path} is no readable safetensors file ({error}); fetch it again"
        ) from error
    named = {name: tensors[kept] for name, kept in shared.items() if kept in tensors}
    return named | tensors


def _choose(
    path: Path, content: Any, weights: str | None, file: TorchFile | None = None
) -> Container:
    """The ordinary weights or the running average, with the configuration."""
    content = content if isinstance(content, dict) else {}
    config = None
    if "hyper_parameters" in content:
        try:
            config = plain(content["hyper_parameters"], None if file is None else file.read)
        except S4EdgeError as error:
            raise S4EdgeError(f"{path}: {error}") from error
    model = _find(content, _STATE_DICT_KEYS, _STATE_DICT_KEYS)
    if model is None and _has_tensors(content):
        model = content
    ema = _find(content, _EMA_KEYS, _EMA_INNER_KEYS)
    if ema is not None:
        # How far the average has run is no weight.
        ema = {name: value for name, value in ema.items() if isinstance(value, _TENSORS)}
    if model is not None and ema is None:
        model, ema = _split(model)
    if weights is None:
        weights = "model" if model is not None or ema is None else "ema"
    if weights == "ema" and ema is None:
        raise S4EdgeError(f"{path} has no running average (EMA) of its weights; leave weights out")
    notes: tuple[str, ...] = ()
    if weights == "model" and ema is not None:
        notes = (
            "the file also holds a running average (EMA) of the weights: weights=ema takes it",
        )
    elif weights == "ema":
        notes = ("the weights are the running average (EMA) that the file holds",)
    chosen = ema if weights == "ema" else model
    return Container(
        tensors=_without_wrappers(_state_dict(path, chosen, file)),
        config=config if isinstance(config, dict) else None,
        weights=weights,
        notes=notes,
    )


def _find(
    content: dict[Any, Any], keys: tuple[str, ...], inner: tuple[str, ...]
) -> dict[Any, Any] | None:
    """The first entry that is a state dict or has one under one of the ``inner`` keys."""
    for key in keys:
        value = content.get(key)
        if not isinstance(value, dict):
            continue
        for each in (value, *(value.get(name) for name in inner)):
            if isinstance(each, dict) and _has_tensors(each):
                return each
    return None


def _has_tensors(content: dict[Any, Any]) -> bool:
    return any(
        isinstance(name, str) and isinstance(value, _TENSORS) for name, value in content.items()
    )


def _split(model: dict[Any, Any]) -> tuple[dict[Any, Any], dict[Any, Any] | None]:
    """Part a state dict that holds the running average beside the ordinary weights."""
    names = {name for name in model if isinstance(name, str)}
    for prefix, ordinary in _EMA_PREFIXES:
        renamed = {
            ordinary + name.removeprefix(prefix): name for name in names if name.startswith(prefix)
        }
        rest = names - set(renamed.values())
        averaged = set(renamed) & rest
        if averaged and averaged == {name for name in rest if name.startswith(ordinary)}:
            plain = {name: value for name, value in model.items() if name in rest}
            return plain, {
                name: model[renamed[name]] if name in averaged else value
                for name, value in plain.items()
            }
    return model, None


def _state_dict(
    path: Path, content: dict[Any, Any] | None, file: TorchFile | None
) -> dict[str, Tensor]:
    tensors = content and {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, _TENSORS)
    }
    if not content or not tensors:
        raise S4EdgeError(
            f"{path} holds no state dict: expected tensors by name, plain or under "
            + " or ".join(repr(key) for key in _STATE_DICT_KEYS)
        )
    others = [str(name) for name in content if name not in tensors]
    if others:
        raise S4EdgeError(
            f"{path}: its state dict has entries that are no tensors: {', '.join(others[:5])}"
        )
    return tensors if file is None else file.read_all(tensors)


def _without_wrappers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop what DataParallel, torch.compile and AveragedModel put into a state dict.

    ``module.`` goes where every name begins with it, ``_orig_mod.`` wherever it is.
    """
    tensors = {name.replace("_orig_mod.", ""): tensor for name, tensor in tensors.items()}
    while True:
        names = set(tensors) - {"n_averaged"}
        if not names or not all(name.startswith("module.") for name in names):
            return tensors
        tensors = {name.removeprefix("module."): tensors[name] for name in tensors if name in names}
