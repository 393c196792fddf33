"""Whole checkpoints, from file to model: tensors lost, renamed, of other shapes and values."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch

import s4edge
from s4edge.checkpoints.container import read_container

from .. import seeds
from ..mutate import jsons
from ..reader import Reader

_VALUES = (0.0, -1.0, 1e-30, 1e30, -1e30, float("nan"), float("inf"), 1.0, 1e4)
_NAMES = ("A_real", "A_imag", "C", "B", "P", "D", "log_dt", "inv_dt", "w", "n", "weight", "bias")
_KINDS = (torch.float64, torch.float16, torch.int64, torch.complex64, torch.bool)


def _packed(tensors: dict[str, Any], config: Any, sidecar: Any) -> bytes:
    """A checkpoint with its configuration, and beside it, in the same file, its sidecar."""
    content: dict[str, Any] = {"state_dict": tensors}
    if config is not None:
        content["hyper_parameters"] = config
    if sidecar is not None:
        content["sidecar"] = json.dumps(sidecar)
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@cache
def _seeds() -> Sequence[bytes]:
    """What this repository's tests write, and small ones of upstream's with all that is said."""
    tiny = (seeds.models()[f"{name}.pt"] for name in ("s4d", "s4block", "exp", "softmax"))
    found = [
        _packed(torch.load(io.BytesIO(data), weights_only=True)["model"], None, None)
        for data in tiny
    ]
    for folder, suffix in (("layers", ".pt"), ("published", ".ckpt"), ("hard", ".pt"),
                           ("random", ".pt")):  # fmt: skip
        files = sorted((seeds.SHARED / folder).glob(f"*{suffix}"))
        small = [path for path in files if path.stat().st_size < 40_000]
        for path in small[:: max(1, len(small) // 12)]:
            container = read_container(path)
            beside = path.with_suffix(".json")
            said = json.loads(beside.read_text()) if beside.exists() else None
            found.append(_packed(container.tensors, container.config, said))
    return found


@cache
def _content(data: bytes) -> dict[str, Any]:
    return torch.load(io.BytesIO(data), weights_only=True)


def _changed(random: Random, tensor: torch.Tensor) -> torch.Tensor | None:
    do = random.randrange(14)
    if do == 0:
        return None
    if do == 1:
        return tensor[None]
    if do == 2:
        return tensor[..., :-1] if tensor.ndim else tensor
    if do == 3:
        return tensor.T.contiguous() if tensor.ndim == 2 else tensor.flatten()
    if do == 4:
        return tensor[:0] if tensor.ndim else tensor
    if do == 5:
        return tensor.to(random.choice(_KINDS))
    if do == 6:
        return torch.cat([tensor, tensor]) if tensor.ndim else tensor
    changed = tensor.clone()
    if not changed.numel() or not changed.is_floating_point():
        return changed
    if do < 10:
        changed.view(-1)[random.randrange(changed.numel())] = random.choice(_VALUES)
    elif do < 12:
        changed *= random.choice((-1.0, 0.0, 1e-3, 1e3, 1e20))
    else:
        changed.fill_(random.choice(_VALUES))
    return changed


def _mutate(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    content = copy.copy(_content(data))
    config, said = content.get("hyper_parameters"), content.get("sidecar")
    sidecar = None if said is None else json.loads(said)
    tensors = dict(content["state_dict"])
    told = config if sidecar is None else sidecar
    if told is not None and random.random() < 0.4:
        changed = jsons.change(random, told)
        config, sidecar = (changed, None) if sidecar is None else (config, changed)
    else:
        for _ in range(random.choice((1, 1, 2, 4))):
            _change(random, tensors, others)
    return _packed(tensors, config, sidecar)


def _change(random: Random, tensors: dict[str, torch.Tensor], others: Sequence[bytes]) -> None:
    name = random.choice(list(tensors) or [""])
    do = random.randrange(12)
    if do < 8 and name in tensors:
        changed = _changed(random, tensors.pop(name))
        if changed is not None:
            tensors[name] = changed
    elif do == 8 and name in tensors:
        parts = name.split(".")
        parts[random.randrange(len(parts))] = random.choice((*_NAMES, "0", "1", "99999999"))
        tensors[".".join(parts)] = tensors.pop(name)
    elif do == 9:
        lent = list(_content(random.choice(others))["state_dict"].items())
        tensors |= dict(random.choice(lent) for _ in range(2))
    elif do == 10 and name in tensors:
        tensors[name + random.choice((".0", "2", ".weight"))] = tensors[name]
    else:
        # Every layer has another width, state size or count.
        part = name.rpartition(".")[2]
        for each in [key for key in tensors if key.endswith(part) and tensors[key].ndim]:
            tensors[each] = tensors[each][..., : random.choice((1, 2))]


def _read(folder: Path) -> object:
    path = folder / "model.pt"
    sidecar = path.with_suffix(".json")
    said = torch.load(path, weights_only=True).get("sidecar")
    if said is None:
        sidecar.unlink(missing_ok=True)
    else:
        sidecar.write_text(said)
    return s4edge.load(path)


READERS = (Reader("checkpoint", "model.pt", _seeds, _mutate, _read, weight=1),)
