"""Whole checkpoints, from the file to a model: tensors lost, renamed, of other shapes, values."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch

import s4edge
from s4edge.checkpoints.container import read_container

from .. import seeds
from ..reader import Reader

_VALUES = (0.0, -1.0, 1e-30, 1e30, -1e30, float("nan"), float("inf"), 1.0, 1e4)
_NAMES = ("A_real", "A_imag", "C", "B", "P", "D", "log_dt", "inv_dt", "w", "n", "weight", "bias")


@cache
def _seeds() -> Sequence[bytes]:
    return [*seeds.named(".pt"), *seeds.upstream(".pt", 12)]


@cache
def _tensors(data: bytes) -> dict[str, torch.Tensor]:
    content = torch.load(io.BytesIO(data), weights_only=True)
    return content.get("model", content.get("state_dict", content))


def _changed(random: Random, tensor: torch.Tensor) -> torch.Tensor | None:
    do = random.randrange(12)
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
        kinds = (torch.float64, torch.float16, torch.int64, torch.complex64, torch.bool)
        return tensor.to(random.choice(kinds))
    if do == 6:
        return torch.cat([tensor, tensor]) if tensor.ndim else tensor
    changed = tensor.clone()
    if not changed.numel() or not changed.is_floating_point():
        return changed
    if do < 9:
        changed.view(-1)[random.randrange(changed.numel())] = random.choice(_VALUES)
    elif do == 9:
        changed *= random.choice((-1.0, 0.0, 1e-3, 1e3, 1e20))
    else:
        changed.fill_(random.choice(_VALUES))
    return changed


def _mutate(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    content: dict[str, Any] = dict(_tensors(data))
    for _ in range(random.choice((1, 1, 2, 4))):
        name = random.choice(list(content) or [""])
        do = random.randrange(10)
        if do < 6 and name in content:
            changed = _changed(random, content.pop(name))
            if changed is not None:
                content[name] = changed
        elif do == 6 and name in content:
            parts = name.split(".")
            parts[random.randrange(len(parts))] = random.choice((*_NAMES, "0", "1", "99999999"))
            content[".".join(parts)] = content.pop(name)
        elif do == 7:
            content |= dict(random.choice(list(_tensors(random.choice(others)).items()))
                            for _ in range(2))  # fmt: skip
        elif do == 8 and name in content:
            content[name + random.choice((".0", "2", ".weight"))] = content[name]
        else:
            # Every layer has another width, state size or count.
            part = name.rpartition(".")[2]
            for each in [key for key in content if key.endswith(part)]:
                content[each] = content[each][..., : random.choice((1, 2))]
    file = io.BytesIO()
    torch.save({"model": content}, file)
    return file.getvalue()


def _read(folder: Path) -> object:
    path = folder / "model.pt"
    facts = {"prenorm": True, "length": 12} if len(read_container(path).tensors) % 2 else {}
    return s4edge.load(path, facts)


READERS = (Reader("checkpoint", "model.pt", _seeds, _mutate, _read, weight=1),)
