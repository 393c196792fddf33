"""Steps of compression are applied in order, and a new one needs a configuration and a handler."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from models_by_hand import random_model

import s4edge
from s4edge.compression import steps
from s4edge.compression.result import Compressed
from s4edge.compression.states.calibration import Calibration
from s4edge.compression.states.step import ReduceStates
from s4edge.errors import S4EdgeError
from s4edge.model.sequence_model import SequenceModel
from s4edge.progress import Progress


@dataclass(frozen=True)
class Scale:
    """A made-up axis: the decoder's weights times a factor."""

    factor: float

    def check(self, model: SequenceModel) -> None:
        if self.factor <= 0:
            raise S4EdgeError("the factor must be positive")


def scaled(
    model: SequenceModel, step: Scale, calibration: Calibration | None, progress: Progress
) -> Compressed:
    out = s4edge.compress(model, int(model.config.largest_state_size))
    with torch.no_grad():
        for parameter in out.decoder.parameters():
            parameter *= step.factor
    progress(1)
    return Compressed(out)


def test_one_step_is_what_its_arguments_say() -> None:
    model = random_model()
    small = s4edge.compress(model, 2)
    same = s4edge.compress(model, steps=[ReduceStates(2)])
    assert same.config == small.config
    for name, tensor in small.state_dict().items():
        assert torch.equal(same.state_dict()[name], tensor)
    assert same.provenance.history == small.provenance.history


def test_steps_are_applied_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(steps.HANDLERS, Scale, scaled)
    model, done = random_model(), []
    small = s4edge.compress(model, steps=[ReduceStates(2), Scale(3.0)], progress=done.append)
    alone = s4edge.compress(model, 2)
    assert torch.equal(small.decoder.weight, 3 * alone.decoder.weight)
    assert small.config.blocks == alone.config.blocks
    assert done == sorted(done)
    assert done[-1] == 1
    # Left alone until every step is known to suit it.
    with pytest.raises(S4EdgeError, match="the factor must be positive"):
        s4edge.compress(model, steps=[ReduceStates(2), Scale(-1.0)])


def test_what_is_no_step_is_refused() -> None:
    model = random_model()
    with pytest.raises(
        S4EdgeError,
        match="str is no step of compression; known: ReduceRate, ReduceWidth, ReduceRank, "
        "ReduceStates",
    ):
        s4edge.compress(model, steps=["states"])  # type: ignore[list-item]
    with pytest.raises(S4EdgeError, match="there is no step"):
        s4edge.compress(model, steps=[])
    with pytest.raises(S4EdgeError, match="either steps or a state size"):
        s4edge.compress(model, 2, steps=[ReduceStates(2)])
