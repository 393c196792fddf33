"""The step that reduces rates: what it tells, what it chooses, what it refuses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from model_properties import saved_and_loaded
from models_by_hand import random_model

import s4edge
from s4edge.compression.rates.errors import predicted_errors
from s4edge.compression.rates.slowing import Strides, slowed
from s4edge.compression.rates.step import ReduceRate, reduce_rate
from s4edge.compression.states.calibration import Calibration, select
from s4edge.compression.states.step import ReduceStates
from s4edge.errors import S4EdgeError
from s4edge.model.costs import multiply_adds
from s4edge.model.history import Compression, RateReduction
from s4edge.model.sequence_model import SequenceModel


def smooth(sequences: int, length: int, seed: int = 0) -> np.ndarray:
    """Noise that changes slowly."""
    kernel = np.hanning(6) / np.sqrt(np.hanning(6).sum())
    x = np.random.default_rng(seed).standard_normal((sequences, length + len(kernel) - 1, 2))
    rows = [[np.convolve(each, kernel, "valid") for each in row.T] for row in x]
    return np.asarray(rows).transpose(0, 2, 1).astype(np.float32)


def calibration(model: SequenceModel, length: int = 192, **options: object) -> Calibration:
    return select(model, torch.from_numpy(smooth(24, length)), None, "slow noise")


def last(model: SequenceModel) -> RateReduction:
    entry = model.provenance.history[-1]
    assert isinstance(entry, RateReduction)
    return entry


def test_what_is_told_is_measured() -> None:
    model = random_model()
    data = calibration(model)
    small = reduce_rate(model, ReduceRate((2, 3)), data).model
    told = last(small)
    assert (told.input_stride, told.strides, told.chosen) == (1, (2, 3), False)
    assert (told.multiply_adds_before, told.multiply_adds_after) == (
        multiply_adds(model), multiply_adds(small),
    )  # fmt: skip
    assert told.multiply_adds_after < told.multiply_adds_before
    x = data.x
    with torch.no_grad():
        (y, left), (found, mine) = (each.trace(x) for each in (model, small))
    error = (found - y).norm() / y.norm()
    assert told.output_error is not None
    np.testing.assert_allclose(told.output_error.measured, error, rtol=3e-3)
    assert told.output_error.same_class == (y.argmax(1) == found.argmax(1)).float().mean()
    for layer, its, aim, window in zip(told.layers, mine, left, (2, 6), strict=True):
        aim = aim.unflatten(1, (-1, window)).mean(2)
        wanted = float((its - aim).norm() / aim.norm())
        np.testing.assert_allclose(layer.error, wanted, rtol=3e-3)
    so_far = [layer.output_error for layer in told.layers]
    assert so_far[-1] is not None
    np.testing.assert_allclose(so_far[-1].measured, told.output_error.measured, rtol=1e-3)
    with torch.no_grad():
        first = slowed(model, Strides(1, (2, 1)))(x)
    assert so_far[0] is not None
    np.testing.assert_allclose(so_far[0].measured, (first - y).norm() / y.norm(), rtol=3e-3)
    assert [layer.period for layer in told.layers] == [1, 2]
    assert saved_and_loaded(small).provenance.history == small.provenance.history


def test_sequences_of_several_lengths() -> None:
    """Errors are those of each sequence alone, whatever padding holds."""
    model = random_model()
    lengths = torch.tensor([192, 96, 48, 24])
    x = torch.from_numpy(smooth(4, 192))
    data = select(model, x, lengths, "padded")
    small = reduce_rate(model, ReduceRate((2, 2)), data).model
    aims, errors = 0.0, 0.0
    with torch.no_grad():
        for row, length in zip(x, lengths.tolist(), strict=True):
            alone = row[None, :length]
            y, found = model(alone), small(alone)
            aims, errors = aims + y.square().sum(), errors + (found - y).square().sum()
    told = last(small).output_error
    assert told is not None
    np.testing.assert_allclose(told.measured, float((errors / aims).sqrt()), rtol=3e-3)


@pytest.mark.parametrize("pooling", ["mean", "last", "none"])
def test_prediction_is_exact_where_the_model_is_linear(pooling: str) -> None:
    """Of one output: its projection on a random sign is it, or its negative."""
    model = random_model(d_output=1, pooling=pooling)
    blocks = tuple(
        dataclasses.replace(
            block, norm="none", activation="identity", final_activation="identity", mixing="none"
        )
        for block in model.config.blocks
    )
    torch.manual_seed(0)
    linear = SequenceModel(dataclasses.replace(model.config, blocks=blocks)).double()
    for block, its in zip(linear.blocks, model.blocks, strict=True):
        block.systems = its.systems.double()
    x = torch.from_numpy(smooth(1 if pooling == "none" else 16, 60)).double()
    data = select(linear, x, None, "x")
    for strides in (Strides(4, (1, 1)), Strides(1, (2, 3))):
        with torch.no_grad():
            y = linear(x)
            change = slowed(linear, strides)(x) - y
        (found,) = predicted_errors(linear, [strides], data, float(y.square().sum()) / len(x))
        if pooling == "none":
            # A projection on many signs has the mean square of the change, and is not it.
            generator = torch.Generator().manual_seed(0)
            signs = torch.randint(0, 2, y.shape, generator=generator) * 2.0 - 1
            change = (signs * change).sum()
        np.testing.assert_allclose(found, float(change.norm() / y.norm()), rtol=1e-3)


@pytest.mark.parametrize("pooling", ["mean", "none"])
def test_prediction_is_near_where_little_changes(pooling: str) -> None:
    model = random_model(pooling=pooling)
    data = select(model, torch.from_numpy(smooth(64, 240)), None, "x")
    told = last(reduce_rate(model, ReduceRate((1, 2, 1)), data).model).output_error
    assert told is not None
    assert told.predicted is not None
    assert told.measured / 2 < told.predicted < 2 * told.measured


def test_strides_are_chosen_within_an_error() -> None:
    model = random_model()
    data = calibration(model)
    sizes = []
    for error in (0.02, 0.1, 0.4):
        small = reduce_rate(model, ReduceRate(error=error), data).model
        told = last(small)
        assert told.chosen
        assert told.output_error is not None
        assert told.output_error.measured <= error
        sizes.append(told.multiply_adds_after)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < multiply_adds(model) / 2


def test_strides_are_chosen_for_a_budget() -> None:
    model = random_model()
    data, whole = calibration(model), multiply_adds(model)
    small = reduce_rate(model, ReduceRate(macs=whole // 2), data).model
    assert multiply_adds(small) <= whole // 2
    # Nothing is taken that is not needed: with the last stride halved, the budget is not met.
    with pytest.raises(S4EdgeError, match=r"nearest is --rate \S+ with [\d,]+, where .* differs"):
        reduce_rate(model, ReduceRate(macs=1), data)
    with pytest.raises(S4EdgeError, match="nearest is --rate"):
        reduce_rate(model, ReduceRate(macs=whole // 4, error=1e-4), data)


def test_states_are_reduced_behind() -> None:
    model = random_model()
    data = torch.from_numpy(smooth(24, 192))
    small = s4edge.compress(model, steps=[ReduceRate((2, 2)), ReduceStates(4)], calibration=data)
    same = s4edge.compress(model, 4, rate=(2, 2), calibration=data)
    assert same.provenance.history == small.provenance.history
    chosen = s4edge.compress(model, rate="auto", macs=200, calibration=data)
    assert multiply_adds(chosen) <= 200
    with pytest.raises(S4EdgeError, match="spent on rates"):
        s4edge.compress(model, 4, macs=200)
    kinds = [type(entry) for entry in small.provenance.history]
    assert kinds == [RateReduction, Compression]
    assert small.config.stride == 4
    assert small.config.largest_state_size == 4
    assert multiply_adds(small) < multiply_adds(slowed(model, Strides(1, (2, 2))))


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (ReduceRate((2,)), "1 stride for 2 layers: give 2, one behind each layer, or 3"),
        (ReduceRate((2, 2, 2, 2)), "4 strides for 2 layers"),
        (ReduceRate((0, 2)), "a stride is a whole number from 1 up, got 0"),
        (ReduceRate((2, -3)), "a stride is a whole number from 1 up, got -3"),
        (ReduceRate((True, 2)), "a stride is a whole number from 1 up, got True"),
        (ReduceRate((100, 2)), "make one sample of 200, slow noise have 192: choose smaller"),
        (ReduceRate(macs=0), "must be at least 1, got 0"),
        (ReduceRate(error=1.5), "between 0 and 1, got 1.5"),
        (ReduceRate((2, 2), macs=9), "either given or chosen"),
    ],
)
def test_what_does_not_suit(step: ReduceRate, said: str) -> None:
    model = random_model()
    with pytest.raises(S4EdgeError, match=said):
        reduce_rate(model, step, calibration(model))


def test_choosing_needs_data() -> None:
    with pytest.raises(S4EdgeError, match="--calibrate DATA"):
        reduce_rate(random_model(), ReduceRate())


def test_without_data_nothing_is_measured() -> None:
    told = last(s4edge.compress(random_model(), steps=[ReduceRate((1, 2))]))
    assert told.output_error is None
    assert told.calibration is None
    assert [layer.error for layer in told.layers] == [None, None]
