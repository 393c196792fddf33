"""Where a training run stands, taken up again."""

from __future__ import annotations

from pathlib import Path

from s4edge.training.run_state import RunState

from .. import seeds
from ..reader import Reader
from .torch_files import mutate


def _read(folder: Path) -> object:
    return RunState.load(folder / "model.run", {"seed": 0})


READERS = (Reader("run-state", "model.run", seeds.run_states, mutate, _read, weight=0.5),)
