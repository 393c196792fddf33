"""Feed-forward layers: blocks without systems, also in files from before there were any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models_by_hand import random_model, redescribed

from s4edge.compression.compress import compress_model
from s4edge.errors import S4EdgeError
from s4edge.export.lowering import lower, lower_sequences
from s4edge.export.lowering.reference import run
from s4edge.model.configuration import BlockConfig, ModelConfig
from s4edge.model.file import load_model, save_model
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.diagonal import DiagonalConfig
from s4edge.model.systems.feedforward import FeedForward, FeedForwardConfig
from s4edge.training.trainable import Trainable

WIDTH = 6


def model_of(systems: Any, backward: Any = None) -> SequenceModel:
    block = BlockConfig("layer", systems, "none", "pre", 1e-5, False, "identity", "none",
                        "identity", backward=backward)  # fmt: skip
    channels = systems.channels
    config = ModelConfig(WIDTH, channels, WIDTH, "none", (block,), "none", "none", None)
    return SequenceModel(config).eval()


def older(path: Path, model: SequenceModel, tagged: bool = False) -> Path:
    """A file as it was written when systems had no kind."""
    save_model(model, path)

    def untag(blocks: list[Any]) -> None:
        for block in blocks:
            assert block["systems"].pop("tag") == "diagonal"

    return path if tagged else redescribed(path, untag)


def scale(factor: float, **options: Any) -> SequenceModel:
    """Systems without states."""
    none = (0,) * WIDTH
    model = model_of(DiagonalConfig("feedforward", 0, 1, none, none, none, **options))
    if options.get("feedthrough", True):
        model.blocks[0].systems.get_parameter("D").data.fill_(factor)
    return model


@pytest.mark.parametrize("inputs", [(), (5, 0, 0, 3)])
def test_what_enters_leaves(inputs: tuple[int, ...]) -> None:
    model = model_of(FeedForwardConfig("ff", len(inputs) or WIDTH, inputs))
    x = torch.randn(2, 9, WIDTH)
    wanted = x[..., list(inputs)] if inputs else x
    assert torch.equal(model(x), wanted)
    assert torch.equal(model.stream(x), wanted)
    y, state = run(lower(model), x[0].double().numpy())
    assert np.array_equal(y, wanted[0].double().numpy())
    assert not len(state)
    assert len(lower(model).stages) == bool(inputs)
    assert not list(model.parameters())


def test_there_is_nothing_to_train() -> None:
    with pytest.raises(S4EdgeError, match="no numbers that could be trained"):
        Trainable(model_of(FeedForwardConfig("ff", WIDTH)), 9)


def test_backward_it_is_the_next_sample() -> None:
    config = FeedForwardConfig("ff", WIDTH)
    model = model_of(config, backward=config)
    x = torch.randn(2, 9, WIDTH)
    later = torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], dim=1)
    assert torch.equal(model(x), x + later)
    assert any(each.name.endswith("backward_systems") for each in lower_sequences(model).stages)


@pytest.mark.parametrize("inputs", [(), (5, 0, 0, 3, 1, 2)])
def test_older_files_have_them_as_systems_without_states(
    tmp_path: Path, inputs: tuple[int, ...]
) -> None:
    path = older(tmp_path / "model.safetensors", scale(1, inputs=inputs))
    model = load_model(path)
    assert model.config.blocks[0].systems == FeedForwardConfig("feedforward", WIDTH, inputs)
    x = torch.randn(2, 9, WIDTH)
    assert torch.equal(model(x), x[..., list(inputs)] if inputs else x)
    save_model(model, path)
    assert load_model(path).config == model.config


def test_other_systems_without_states_stay(tmp_path: Path) -> None:
    x, path = torch.randn(2, 9, WIDTH), tmp_path / "model.safetensors"
    for model in (scale(2), scale(1, kernel_length=4), scale(0, feedthrough=False)):
        again = load_model(older(path, model))
        assert again.config == model.config
        assert torch.equal(again(x), model(x))
    # Who says what they are is believed.
    assert load_model(older(path, scale(1), tagged=True)).config == scale(1).config


def test_reduction_tells_of_them_and_leaves_them() -> None:
    model = random_model()
    model.blocks[0].systems = FeedForward(FeedForwardConfig("ff", WIDTH))
    small = compress_model(model, state=4)
    assert isinstance(small.blocks[0].systems, FeedForward)
    first, second = small.provenance.history[-1].layers
    assert (first.real_states_before, first.real_states_after, first.error) == (0, 0, 0)
    assert first.channel_real_states == (0,) * WIDTH
    assert second.real_states_after < second.real_states_before


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (FeedForwardConfig("ff", 4), "4 channels do not fit 6 features and 0 inputs"),
        (FeedForwardConfig("ff", 2, (0, 6)), "inputs are not among 6 features"),
        (FeedForwardConfig("ff", 2, (0, -1)), "an input is -1"),
        (FeedForwardConfig("ff", 0), "channels is 0"),
    ],
)
def test_damaged_ones_are_refused(config: FeedForwardConfig, why: str) -> None:
    said = model_of(FeedForwardConfig("ff", WIDTH)).config.to_json()
    said["blocks"][0]["systems"] |= {"channels": config.channels, "inputs": list(config.inputs)}
    with pytest.raises(S4EdgeError, match=f"layer: .*{why}|layer: {why}"):
        ModelConfig.from_json(said)
