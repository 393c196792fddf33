"""Models with strides, against the model that runs at every sample on signals held and averaged."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from model_properties import assert_one_line, saved_and_loaded
from model_strategies import RandomModel, as_the_model_takes_it, random_models
from models_by_hand import random_model
from naive_model import Naive

from s4edge.compression.rates.slowing import Strides, slowed
from s4edge.errors import S4EdgeError
from s4edge.export.lowering.lower import lower
from s4edge.model.costs import costs_of, multiply_adds
from s4edge.model.sequence_model import SequenceModel
from s4edge.systems.realization import FASTEST


def held_average(x: torch.Tensor, window: int) -> torch.Tensor:
    return x.unflatten(1, (-1, window)).mean(2).repeat_interleave(window, dim=1)


def left_at_every_sample(
    model: SequenceModel, x: torch.Tensor, strides: Strides
) -> list[torch.Tensor]:
    """What leaves each layer, one for a window, where all runs at every sample of ``model``."""
    window, found = strides.input, []
    h = held_average(model.encode(x), window)
    for block, stride in zip(model.blocks, strides.layers, strict=True):
        u = block.before(h)
        y = held_average(block.respond(u), window)
        # A stride that the block has already is one of windows.
        left = block.after(h[:, ::window], u[:, ::window], y[:, ::window])
        found.append(left.unflatten(1, (-1, stride)).mean(2))
        window *= stride
        h = found[-1].repeat_interleave(window, dim=1)
    return found


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(random_models(slowest=1e-3), st.lists(st.sampled_from([1, 1, 2, 3]), min_size=4, max_size=4))
def test_slowed_is_the_model_of_held_averages(drawn: RandomModel, chosen: list[int]) -> None:
    model = drawn.build().double()
    strides = Strides(chosen[0], tuple(chosen[1 : 1 + len(model.blocks)]))
    try:
        small = slowed(model, strides)
    except S4EdgeError as refused:
        assert_one_line(refused)
        return
    if drawn.config.length is not None:
        length = drawn.config.length
        assume(length % (model.config.stride * strides.total) == 0)
    else:
        length = 6 * model.config.stride * strides.total
    exact = model.config.exact_samples
    assume(exact is None or exact >= length)
    x = as_the_model_takes_it(model.config, drawn.inputs(length), torch.float64)
    with torch.no_grad():
        wanted = left_at_every_sample(model, x, strides)
        _, found = small.trace(x)
        tolerance = Naive(model).tolerance(drawn.inputs(length), 1e-9)
    assume(np.isfinite(tolerance) and tolerance < 1e-3)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6 + 1e3 * tolerance)


def test_fast_poles_keep_their_next_sample() -> None:
    """A pole of 0.5 is over within a window of 32: what is left of it is a sample."""
    model = random_model(pooling="none").double()
    with torch.no_grad():
        for block in model.blocks:
            block.systems.pair_log_decay.fill_(np.log(np.log(2)))
            block.systems.real_log_decay.fill_(np.log(np.log(2)))
    strides = Strides(32, (1, 1))
    small = slowed(model, strides)
    assert all(
        (block.systems.modes().log_pole.real >= np.log(FASTEST) - 1e-6).all()
        for block in small.blocks
    )
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 32 * 20, 2)))
    with torch.no_grad():
        wanted = left_at_every_sample(model, x, strides)
        _, found = small.trace(x)
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).abs().max() < 2e-5 * other.abs().max()


def test_strides_one_after_another_are_their_product() -> None:
    model = random_model().double()
    twice = slowed(slowed(model, Strides(2, (3, 1))), Strides(2, (1, 2)))
    once = slowed(model, Strides(4, (3, 2)))
    assert [block.stride for block in twice.config.blocks] == [3, 2]
    assert twice.config.input_stride == 4
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 96, 2)))
    with torch.no_grad():
        torch.testing.assert_close(twice(x), once(x), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("pooling", ["mean", "sum", "last", "none"])
def test_a_slow_enough_input_loses_nothing(pooling: str) -> None:
    """A constant that has settled is its own average; pools weigh it right."""
    model = random_model(pooling=pooling).double()
    small = slowed(model, Strides(2, (2, 3)))
    x = torch.ones(1, 12 * 2500, 2, dtype=torch.float64)
    with torch.no_grad():
        y, found = model(x), small(x)
    assert found.shape == y.shape
    if pooling == "none":
        y, found = y[:, -1], found[:, -1]
    if pooling == "sum":
        y, found = y / x.shape[1], found / x.shape[1]
    torch.testing.assert_close(found, y, rtol=3e-3, atol=3e-3)


def test_single_precision_holds_what_cancels() -> None:
    """A mode of weight ``w a^-k`` cancels against ``D``: stored, it must not be lost."""
    model = random_model(pooling="none")
    with torch.no_grad():
        model.blocks[0].systems.real_log_decay.fill_(np.log(-np.log(FASTEST) / 64))
    small = slowed(model, Strides(64, (1, 1)))
    assert small.blocks[0].systems.D.abs().max() > 50
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 640, 2))).float()
    back = saved_and_loaded(small)
    with torch.no_grad():
        assert torch.equal(back(x), small(x))
        wanted = slowed(model.double(), Strides(64, (1, 1)))(x.double())
        torch.testing.assert_close(small(x).double(), wanted, rtol=1e-3, atol=1e-4)


def test_layers_before_the_first_stride_stay_to_the_bit() -> None:
    model = random_model()
    small = slowed(model, Strides(1, (2, 2)))
    for name, tensor in model.blocks[0].state_dict().items():
        assert torch.equal(small.blocks[0].state_dict()[name], tensor)
    assert small.blocks[1].systems.config.real_states == model.blocks[1].systems.config.real_states


def test_what_cannot_be_slowed_is_refused() -> None:
    model = random_model(pooling="none")
    blocks = tuple(
        dataclasses.replace(block, stride=2, downsampling="sample") for block in model.config.blocks
    )
    model.config = dataclasses.replace(model.config, blocks=blocks)
    with pytest.raises(S4EdgeError, match=r"blocks.0 has a stride of 2 that is no average"):
        slowed(model, Strides(1, (2, 1)))
    with pytest.raises(S4EdgeError, match="one answer for 4 samples"):
        slowed(model, Strides(2, (1, 1)))
    summed = random_model(pooling="sum", decoder="none", d_output=6)
    with pytest.raises(S4EdgeError, match="no decoder to make up"):
        slowed(summed, Strides(2, (1, 1)))


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(random_models(streams=True))
def test_costs_are_those_of_the_stages(drawn: RandomModel) -> None:
    """Counted of the model and of what files are written from, they are the same."""
    model = drawn.build()
    assert multiply_adds(model) == lower(model).multiply_adds
    periods = [cost.period for cost in costs_of(model)]
    assert periods[1:] == model.config.periods


def test_directions_that_read_other_features_are_refused() -> None:
    plain, strides = random_model().config, Strides(1, (2, 1))

    def both_ways(inputs: tuple[int, ...]) -> SequenceModel:
        blocks = tuple(
            dataclasses.replace(each, backward=dataclasses.replace(each.systems, inputs=inputs))
            for each in plain.blocks
        )
        return SequenceModel(dataclasses.replace(plain, blocks=blocks))

    slowed(both_ways(tuple(range(6))), strides)
    with pytest.raises(S4EdgeError, match="read other features than its forward ones"):
        slowed(both_ways((0,) * 6), strides)
