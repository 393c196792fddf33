"""From a checkpoint file to its tensors, running nothing that the file holds."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from s4edge.errors import S4EdgeError

# Where training scripts put the state dict.
_STATE_DICT_KEYS = ("model", "state_dict", "model_state_dict")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict of a ``.pt``, ``.pth``, ``.ckpt`` or ``.safetensors`` file.

    Raises:
        S4EdgeError: the file is missing, empty, truncated, needs code to be run, or holds no state
            dict.
    """
    if not path.exists():
        raise S4EdgeError(f"{path} does not exist")
    if path.is_dir():
        raise S4EdgeError(f"{path} is a folder; name the checkpoint file in it")
    try:
        with open(path, "rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise S4EdgeError(f"cannot read {path}: {error.strerror}") from error
    if empty:
        raise S4EdgeError(f"{path} is empty: the copy or download did not finish; fetch it again")
    content: Any
    if path.suffix == ".safetensors":
        try:
            content = load_file(path)
        except (SafetensorError, OSError) as error:
            raise S4EdgeError(
                f"{path} is no readable safetensors file ({error}); fetch it again"
            ) from error
    else:
        content = _torch_load(path)
    return _without_common_prefix(_state_dict(path, content))


def _torch_load(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = str(error)
        named = re.search(r"GLOBAL (\S+) was not an allowed global", text) or re.search(
            r"Trying to (?:load|call) \W*(?:unsupported GLOBAL )?([\w.]+)", text
        )
        if named or "Unsupported" in text:
            what = f" ({named.group(1)})" if named else ""
            raise S4EdgeError(
                f"{path} holds Python objects{what} that only running code from the file could "
                "restore; refused. Re-save the weights alone: "
                f"torch.save({{'model': model.state_dict()}}, '{path.name}')"
            ) from error
        raise _damaged(path, text) from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, OSError, IndexError,
            TypeError, AssertionError, zipfile.BadZipFile) as error:  # fmt: skip
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, text: str) -> S4EdgeError:
    reason = " ".join(text.split(". ")[0].split())[:120] or "it ends too early"
    return S4EdgeError(
        f"{path} is no readable PyTorch checkpoint ({reason}); it is truncated, damaged or "
        "another kind of file: fetch or save it again"
    )


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    if isinstance(content, dict):
        for key in _STATE_DICT_KEYS:
            if isinstance(content.get(key), dict):
                content = content[key]
                break
    tensors = isinstance(content, dict) and {
        name: value for name, value in content.items() if isinstance(value, Tensor)
    }
    if not tensors:
        raise S4EdgeError(
            f"{path} holds no state dict: expected tensors by name, plain or under "
            + " or ".join(repr(key) for key in _STATE_DICT_KEYS)
        )
    others = [str(name) for name in content if name not in tensors]
    if others:
        raise S4EdgeError(
            f"{path}: its state dict has entries that are no tensors: {', '.join(others[:5])}"
        )
    return tensors


def _without_common_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop ``module.``, put first by DataParallel, and ``_orig_mod.``, put by torch.compile."""
    for prefix in ("module.", "_orig_mod."):
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors
