"""The stages of a model, run by numpy, against the model's own recurrence."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from model_properties import DOUBLE, assert_close, reference
from model_strategies import RandomModel, random_models
from models_by_hand import random_model
from test_block_variants import BLOCKS, model_of

from s4edge import S4EdgeError
from s4edge.export.lowering import lower, lower_sequences
from s4edge.export.lowering.program import (
    Constant,
    Convolution,
    Downsample,
    Hold,
    Linear,
    NormOverTime,
    PoolSequence,
    Recurrence,
    state_width,
)
from s4edge.export.lowering.reference import FUNCTIONS, run
from s4edge.model.activations import ELEMENTWISE
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.diagonal import DiagonalConfig, DiagonalSystems
from s4edge.model.systems.feedforward import FeedForward, FeedForwardConfig

SAMPLES = 40


def check(model: SequenceModel, samples: int = SAMPLES) -> None:
    """Equal to float64's last digits, the state carried over from one stretch to the next."""
    config = model.config
    rng = np.random.default_rng(0)
    if config.encoder == "embedding":
        x: np.ndarray[Any, Any] = rng.integers(0, config.d_input, samples)
    else:
        x = rng.standard_normal((samples, config.d_input))
    model = model.double()
    into = torch.from_numpy(x)[None]
    with torch.inference_mode():
        streamed = model.stream(into.mT if config.channels_first else into)[0]
    expected = (streamed.mT if config.channels_first else streamed).numpy()
    program = lower(model)
    first, state = run(program, x[:7])
    rest, state = run(program, x[7:], state)
    got = np.concatenate([first, rest])
    assert got.shape == (samples, program.d_output) == (samples, config.d_output)
    assert np.abs(got - expected).max() < 1e-13 * max(np.abs(expected).max(), 1)
    assert state.shape == (state_width(program.layout()),)


@pytest.mark.parametrize("name", [n for n in BLOCKS if model_of(n).config.streams])
def test_every_kind_of_block(name: str) -> None:
    model = model_of(name)
    check(model, min(model.config.exact_samples or SAMPLES, SAMPLES))


def test_whole_sequences_have_the_stages_of_streams_and_others() -> None:
    found = set()
    for name in BLOCKS:
        model = model_of(name)
        whole = lower_sequences(model)
        found |= {type(stage.operation) for stage in whole.stages}
        if model.config.streams:
            stages = [s for s in lower(model).stages if not isinstance(s.operation, Hold)]
            assert [s.name for s in stages] == [s.name for s in whole.stages]
            assert [s.width for s in stages] == [s.width for s in whole.stages]
    assert {Convolution, NormOverTime, Downsample, PoolSequence} <= found


OUTPUTS: dict[str, dict[str, Any]] = {
    "scaled": {"residual_form": "scaled"},
    "highway": {"residual_form": "highway", "residual_weights": (0.7, 1.0)},
    "repeat": {"repeat": 2},
    "widening": {"widening": 9},
    "all": {"residual_form": "highway", "repeat": 3, "widening": 5, "norm_placement": "post"},
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_kind_of_residual_and_width(name: str) -> None:
    plain = model_of("plain")
    block = dataclasses.replace(plain.config.blocks[0], **OUTPUTS[name])
    torch.manual_seed(0)
    model = SequenceModel(dataclasses.replace(plain.config, blocks=(block,)))
    model.blocks[0].systems = plain.blocks[0].systems
    if name == "scaled":
        torch.nn.init.normal_(model.blocks[0].residual_scale)
    check(model)


@pytest.mark.parametrize("answers", [0, 3, None])
def test_several_answers_stream_as_the_model_does(answers: int | None) -> None:
    for pooling in ("mean", "first", "last"):
        check(model_of("plain", pooling=pooling, answers=answers))


def test_random_models() -> None:
    @settings(
        max_examples=60, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(random_models(streams=True))
    def holds(drawn: RandomModel) -> None:
        model, config = drawn.build(), drawn.config
        assume(config.streams)
        x = drawn.inputs(min(drawn.samples, config.exact_samples or drawn.samples))
        naive = reference(model, x)
        got = np.stack([run(lower(model), each)[0] for each in x])
        assert_close(got, naive.running(x), naive.tolerance(x, DOUBLE))

    holds()


@pytest.mark.parametrize("pooling", ["none", "mean", "sum", "last", "first"])
def test_poolings(pooling: str) -> None:
    check(model_of("plain", pooling=pooling))


@pytest.mark.parametrize("seed", range(4))
def test_ragged_models(seed: int) -> None:
    check(random_model(seed))
    check(random_model(seed, decoder="none", d_output=6, pooling="none"))


def test_tokens_and_bare_layers() -> None:
    check(model_of("plain", encoder="embedding", d_input=11))
    check(
        model_of(
            "plain", encoder="none", d_input=4, decoder="none", d_output=4, pooling="none",
            final_norm="none", channels_first=True,
        )
    )  # fmt: skip


@pytest.mark.parametrize("function", sorted(ELEMENTWISE))
def test_every_activation(function: str) -> None:
    x = torch.linspace(-30, 30, 1001, dtype=torch.float64)
    got = FUNCTIONS[function](x.numpy())
    # Of torch's own, gelu loses digits of its left tail and softplus is x from 20 on.
    np.testing.assert_allclose(got, ELEMENTWISE[function](x).numpy(), rtol=2e-10, atol=1e-15)


def test_a_feed_forward_layer_has_no_systems() -> None:
    model = random_model()
    for block in model.blocks:
        block.systems = FeedForward(FeedForwardConfig("feedforward", 6))
    assert not lower(model).systems
    check(model)
    none = (0,) * 6
    scale = DiagonalSystems(DiagonalConfig("scale", 0, 1, none, none, none))
    model.blocks[0].systems = scale
    torch.nn.init.constant_(scale.D, 2.0)
    assert len(lower(model).systems) == 1
    check(model)


def test_stages_are_named_after_parts_and_constants_after_tensors() -> None:
    model = random_model()
    program = lower(model)
    assert [stage.name for stage in program.stages[:5]] == [
        "encoder", "blocks.0.norm", "blocks.0.systems", "blocks.0.activation", "blocks.0.mixing",
    ]  # fmt: skip
    assert [stage.part for stage in program.stages][-2:] == ["pooling", "decoder"]
    tensors = model.state_dict()
    for stage in program.stages:
        for constant in stage.constants:
            assert np.array_equal(constant.value, tensors[constant.name].double().numpy())
    roles = {c.name: c.role for stage in program.stages for c in stage.constants}
    assert roles["blocks.0.mixing.weight"] == "matrix"
    assert roles["blocks.0.norm.weight"] == "scale"
    assert roles["blocks.1.systems.D"] == "feedthrough"


def test_where_the_state_lies() -> None:
    model = random_model()
    layout = lower(model).layout()
    widths = [block.systems.state_width for block in model.blocks]
    assert sum(widths) + 7 == model.state_width
    assert [(s.stage, s.meaning, s.width) for s in layout] == [
        ("blocks.0.systems", "states", widths[0]),
        ("blocks.1.systems", "states", widths[1]),
        ("pooling", "pooled", 6),
        ("pooling", "count", 1),
    ]
    assert [s.offset for s in layout] == [0, widths[0], sum(widths), sum(widths) + 6]
    # As graphs have it: all states filled up to slots, in one segment.
    filled = lower(model).layout({"blocks.0.systems": 100, "blocks.1.systems": 0})
    assert [(s.meaning, s.offset, s.width) for s in filled] == [
        ("states", 0, 100), ("pooled", 100, 6), ("count", 106, 1),
    ]  # fmt: skip
    assert state_width(filled) == 107


def test_first_taps_and_multiply_adds_by_hand() -> None:
    model = random_model()
    program = lower(model)
    macs = 2 * 6 + 6 * 12 + 6 * 6 + 6 * 3
    for (_, systems), block in zip(program.systems, model.blocks, strict=True):
        kernel = block.systems.modes().kernel(1)[:, 0] + block.systems.D.detach().numpy()
        np.testing.assert_allclose(systems.first_tap, kernel, atol=1e-12)
        macs += 6 * sum(block.config.systems.pairs) + 2 * sum(block.config.systems.reals)
    assert program.multiply_adds == macs


def test_other_numbers_for_constants() -> None:
    program = lower(random_model())

    def doubled(constant: Constant) -> Any:
        return constant.value * (2 if constant.role == "matrix" else 1)

    changed = program.rounded(doubled)
    for before, after in zip(program.stages, changed.stages, strict=True):
        if isinstance(before.operation, Linear) and isinstance(after.operation, Linear):
            assert (after.operation.weight.value == 2 * before.operation.weight.value).all()
            assert (after.operation.bias.value == before.operation.bias.value).all()
        if isinstance(before.operation, Recurrence):
            assert isinstance(after.operation, Recurrence)
            assert after.operation.modes is before.operation.modes


def test_what_cannot_stream_is_named() -> None:
    with pytest.raises(S4EdgeError, match="cannot stream: block: it is bidirectional"):
        lower(model_of("backward"))
