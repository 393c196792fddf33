from __future__ import annotations

from pathlib import Path

import pytest
import torch
from models_by_hand import random_model
from safetensors.torch import load_file, save_file

import s4edge
from s4edge import S4EdgeError
from s4edge.model.file import load_model, read_description, save_model
from s4edge.model.history import Compression


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_is_lost(tmp_path: Path, dtype: torch.dtype) -> None:
    model = random_model().to(dtype)
    model.provenance.history.append(Compression(method="balanced", state=4))
    save_model(model, tmp_path / "m.safetensors")
    back = load_model(tmp_path / "m.safetensors")
    assert back.config == model.config
    assert back.provenance == model.provenance
    theirs = back.state_dict()
    for name, tensor in model.state_dict().items():
        assert theirs[name].dtype == tensor.dtype
        assert torch.equal(theirs[name], tensor)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_model(random_model(), tmp_path / f"{name}.safetensors")
    a, b = ((tmp_path / f"{name}.safetensors").read_bytes() for name in ("a", "b"))
    assert a == b


def rewritten(tmp_path: Path, change: dict[str, torch.Tensor | None]) -> Path:
    path = tmp_path / "m.safetensors"
    save_model(random_model(), path)
    description = read_description(path)
    tensors = load_file(path)
    for name, tensor in change.items():
        tensors.pop(name, None)
        if tensor is not None:
            tensors[name] = tensor
    import json

    save_file(tensors, path, metadata={"s4edge": json.dumps(description)})
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder.bias": None}, "lacks the tensor encoder.bias"),
        ({"other": torch.zeros(1)}, "has a tensor other"),
        ({"encoder.bias": torch.zeros(5)}, r"encoder.bias has shape \(5,\)"),
        ({"encoder.bias": torch.full((6,), torch.nan)}, "encoder.bias holds NaN"),
    ],
)
def test_damaged_tensors_are_named(
    tmp_path: Path, change: dict[str, torch.Tensor | None], message: str
) -> None:
    with pytest.raises(S4EdgeError, match=message):
        load_model(rewritten(tmp_path, change))


def test_load_and_save_are_the_public_names(tmp_path: Path) -> None:
    model = random_model()
    s4edge.save(model, tmp_path / "m.safetensors")
    assert s4edge.load(tmp_path / "m.safetensors").config == model.config
