"""Layers from a checkout of state-spaces/s4, which is no part of this repository."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from pathlib import Path


def upstream_module(folder: Path, name: str) -> types.ModuleType:
    """The standalone module ``s4d`` or ``s4`` of ``folder``; both need ``pip install einops``."""
    for path in (folder, folder / "models" / "s4"):
        if str(path) not in sys.path:
            sys.path.insert(0, str(path))
    if "pytorch_lightning" not in sys.modules and not importlib.util.find_spec("pytorch_lightning"):
        # All that upstream's layer wants of it is one decorator around log messages.
        lightning = types.ModuleType("pytorch_lightning.utilities")
        lightning.rank_zero_only = lambda function: function  # type: ignore[attr-defined]
        sys.modules["pytorch_lightning"] = types.ModuleType("pytorch_lightning")
        sys.modules["pytorch_lightning.utilities"] = lightning
    return importlib.import_module(name)
