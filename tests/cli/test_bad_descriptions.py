"""Any part of a model file's description, replaced by anything: read, or refused in words."""

from __future__ import annotations

import contextlib
import copy
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import damaged_files
import tiny_checkpoints as tiny
import torch
from safetensors.torch import load_file, save_file

import s4edge
from s4edge.model.file import read_description
from s4edge.reports.model_summary import summarize, summary_table

MISSING: Any = object()
VALUES = (None, "text", -1, 10**12, float("nan"), [1], MISSING)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every part but the whole; of lists the first."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, part in value.items():
            yield from places(part, (*path, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


def replaced(whole: Any, path: tuple[Any, ...], value: Any) -> Any:
    whole = copy.deepcopy(whole)
    part = whole
    for key in path[:-1]:
        part = part[key]
    if value is MISSING:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return whole


def refusal(path: Path, reduces: bool) -> str | None:
    """Why a file is refused; if it is not, it must work, though it may be another model."""
    try:
        model = s4edge.load(path)
    except s4edge.S4EdgeError as error:
        return str(error)
    summary = summarize(model)
    json.dumps(summary, allow_nan=False)
    summary_table(summary, "model")
    with contextlib.suppress(s4edge.S4EdgeError):
        model(torch.zeros(1, model.config.length or tiny.LENGTH, tiny.D_INPUT))
    if reduces:
        with contextlib.suppress(s4edge.S4EdgeError):
            s4edge.compress(model, 4)
    return None


def test_no_description_makes_it_fall_over(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    damaged_files.copy("model.safetensors")(tmp_path)
    description, tensors = read_description(path), load_file(path)
    refused = 0
    for place in places(description):
        if place[0] == "history" and len(place) > 3:
            continue  # every channel's error
        for value in VALUES:
            text = json.dumps(replaced(description, place, value))
            save_file(tensors, path, metadata={"s4edge": text})
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                said = refusal(path, "systems" in place)
            if said is not None:
                assert path.name in said, (place, value)
                assert "\n" not in said, (place, value)
                refused += 1
    assert refused > 150
