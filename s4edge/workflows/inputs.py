"""What workflows begin with: a model from its file, and what it is calibrated on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from s4edge.checkpoints.hub import find_weights
from s4edge.checkpoints.read import read_checkpoint
from s4edge.compression.states.calibration import Calibration, select
from s4edge.compression.states.plan import plan
from s4edge.data.dataset import Data, load_data
from s4edge.model.file import load_model, read_description
from s4edge.model.sequence_model import SequenceModel
from s4edge.workflows.audience import NOBODY, Audience


def load(path: Path, facts: Mapping[str, Any] | None = None) -> SequenceModel:
    """A compressed model or an upstream checkpoint.

    Args:
        path: of the file, or of a hub's model folder.
        facts: for checkpoints, what their tensors do not hold, by upstream's names.

    Raises:
        S4EdgeError: the file cannot be read, or a fact is missing.
    """
    path = find_weights(path)
    if read_description(path) is not None:
        return load_model(path)
    return read_checkpoint(path, facts)


def read_model(
    path: Path, facts: Mapping[str, Any] | None = None, audience: Audience = NOBODY
) -> SequenceModel:
    """`load`, telling what was assumed and how to say otherwise."""
    model = load(path, facts)
    tell_assumed(model, audience)
    return model


def tell_assumed(model: SequenceModel, audience: Audience) -> None:
    """Tell what was assumed when a checkpoint was read, and how to say otherwise."""
    provenance = model.provenance
    if provenance.assumed and not provenance.history:
        assumed = ", ".join(f"{key}={value}" for key, value in provenance.assumed.items())
        audience.note(
            f"Assumed, as the file does not say: {assumed} (override with --set KEY=VALUE)."
        )


def calibration_of(
    model: SequenceModel, data: Data | NDArray[Any] | torch.Tensor, memory: int | None = None
) -> Calibration:
    """Data or an array as what a model is calibrated on.

    Args:
        model: that it is for.
        data: sequences.
        memory: bytes that the work on them may take; None for half of what is free.

    Raises:
        S4EdgeError: the model does not take it.
    """
    if isinstance(data, Data):
        lengths = None if data.lengths is None else torch.from_numpy(data.lengths)
        return select(model, torch.from_numpy(data.x), lengths, data.source, memory)
    return select(model, torch.as_tensor(data), None, "the calibration data", memory)


def read_calibration(
    model: SequenceModel,
    source: str | None,
    audience: Audience = NOBODY,
    memory: int | None = None,
) -> Calibration | None:
    """The sequences of a file or callable; what is going to be made of them is told in detail.

    Args:
        model: that they are for.
        source: of them, or None.
        audience: who is told.
        memory: bytes that the work on them may take; None for half of what is free.

    Raises:
        S4EdgeError: they cannot be read, the model does not take them, or the memory is too little.
    """
    if source is None:
        return None
    calibration = calibration_of(model, load_data(source), memory)
    audience.detail(plan(model, calibration).told())
    return calibration
