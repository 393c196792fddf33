"""The models that graphs are measured on: random ones of any size, shipped and trained ones."""

from __future__ import annotations

from pathlib import Path

import s4edge
from s4edge.model.sequence_model import SequenceModel
from s4edge.training.initial import initial_model

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
D_MODEL, LAYERS, OUTPUTS = 128, 4, 10


def plain(state: int) -> SequenceModel:
    """4 S4D layers of d_model 128 with GLU, post-norm, mean over time."""
    return initial_model(1, OUTPUTS, d_model=D_MODEL, layers=LAYERS, state=state, seed=0)


def shipped() -> dict[str, SequenceModel]:
    """The examples in the repository."""
    return {
        "digits": s4edge.load(ROOT / "examples/digits/model.pt"),
        "spoken digits": s4edge.load(ROOT / "examples/spoken_digits/model.safetensors"),
    }


def trained() -> dict[str, Path]:
    """Checkpoints of upstream's code with recorded outputs, where they are."""
    folder = SHARED / "checkpoints" / "trained"
    return {path.stem: path for path in sorted(folder.glob("*.pt"))}
