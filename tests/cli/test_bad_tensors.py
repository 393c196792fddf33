"""Every tensor of every layout, damaged in every way: read, or refused in words."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_checkpoints as tiny
import torch
from torch import Tensor

import s4edge

# Each must be refused, whichever tensor it happens to.
REFUSED: dict[str, Callable[[Tensor], Tensor | None]] = {
    "missing": lambda t: None,
    "scalar": lambda t: torch.tensor(1.0),
    "empty": lambda t: t[:0],
    "an axis too many in front": lambda t: t[None],
    "NaN": lambda t: t * float("nan"),
    "infinite": lambda t: t + float("inf"),
    "integer": lambda t: t.long(),
    "boolean": lambda t: t.bool(),
    "complex": lambda t: t + 0j,
    "sparse": lambda t: t.to_sparse(),
    "without values": lambda t: t.to("meta"),
}
# Each may make another model of it, or none.
DOUBTFUL: dict[str, Callable[[Tensor], Tensor | None]] = {
    "an axis too many at the end": lambda t: t[..., None],
    "flat": lambda t: t.reshape(-1),
    "twice as long": lambda t: torch.cat([t, t]),
    "twice as wide": lambda t: torch.cat([t, t], dim=-1),
    "without its last": lambda t: t[..., :-1],
    "without its first": lambda t: t[1:],
    "transposed": lambda t: t.mT if t.ndim > 1 else t.flip(0),
    "large": lambda t: t.abs() * 1e3,
    "large and negative": lambda t: t.abs() * -1e3,
    "huge": lambda t: t * 1e38,
    "tiny": lambda t: t * 1e-38,
}
LAYOUTS: dict[str, Callable[[], tiny.StateDict]] = {
    "S4D": tiny.s4d,
    "S4Block": tiny.s4block,
    "DSS-exp": tiny.dss,
    "DSS-softmax": functools.partial(tiny.dss, "softmax", True),
}


def read(path: Path, layout: str, tensors: tiny.StateDict) -> str | None:
    """The error in words, or None. A warning would be more than one line."""
    tiny.write(path, tensors)
    facts = {"length": tiny.LENGTH} if layout == "DSS-softmax" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            model = s4edge.load(path, facts)
        except s4edge.S4EdgeError as error:
            return str(error)
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
    return None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_damaged_tensors(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "model.pt"
    whole = LAYOUTS[layout]()
    assert read(path, layout, whole) is None
    for name, tensor in whole.items():
        # The backbone is the same in every layout, its other parts are read as its encoder is.
        if ".1." in name or not name.startswith("s4_layers" if layout != "S4D" else ("s4", "en")):
            continue
        for damage, change in (REFUSED | DOUBTFUL).items():
            value = change(tensor)
            tensors = {key: each for key, each in whole.items() if key != name}
            said = read(path, layout, tensors if value is None else tensors | {name: value})
            if damage in REFUSED:
                assert said is not None, (name, damage)
            if said is not None:
                assert path.name in said, (name, damage)
                assert "\n" not in said
            if damage in ("NaN", "infinite", "integer", "boolean", "complex", "without values"):
                assert name in said, (name, damage)
