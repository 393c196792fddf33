"""Calibrated reduction of whole models: the shipped example, and models of odd shapes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from test_compress_model import assert_identical, model_of, tensors_of

import s4edge
from s4edge.compression.states.calibration import (
    Calibration,
    Passage,
    output_gradients,
    working_copy,
)
from s4edge.compression.states.layer_error import LayerError
from s4edge.compression.states.observed import Observed
from s4edge.compression.states.output_descent import descend
from s4edge.compression.states.prepared import Prepared, prepare
from s4edge.compression.states.reducing import to_state
from s4edge.compression.states.step import ReduceStates
from s4edge.compression.states.unit import Unit
from s4edge.data.dataset import Data
from s4edge.errors import S4EdgeError
from s4edge.model.sequence_model import SequenceModel
from s4edge.systems.hinf import hinf_distance
from s4edge.training.initial import initial_model
from s4edge.workflows.inputs import calibration_of

SEQUENCES = 300


@pytest.fixture(scope="module")
def data() -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = load_digits(return_X_y=True)
    x = torch.from_numpy((images / 16).astype(np.float32))[:, :, None]
    return x, torch.from_numpy(labels)


@pytest.fixture(scope="module")
def model(digits: Path) -> SequenceModel:
    return s4edge.load(digits / "model.pt")


def accuracy(model: SequenceModel, data: tuple[torch.Tensor, torch.Tensor]) -> float:
    x, y = data[0][-500:], data[1][-500:]
    with torch.no_grad():
        return float((model(x).argmax(dim=1) == y).double().mean())


def prepared(model: SequenceModel, x: torch.Tensor, allocate: str, refine: bool) -> Prepared:
    calibration = calibration_of(model, x)
    settings = ReduceStates(allocate=allocate, refine=refine).settings(calibration)
    return prepare(model, settings, calibration)


@pytest.fixture(scope="module")
def refined(model: SequenceModel, data: tuple[torch.Tensor, torch.Tensor]) -> Prepared:
    return prepared(model, data[0][:SEQUENCES], "sensitivity", True)


@pytest.fixture(scope="module")
def small(refined: Prepared) -> SequenceModel:
    return to_state(refined, 8)


def test_an_eighth_of_the_states_costs_hardly_any_accuracy(
    model: SequenceModel, small: SequenceModel, data: tuple[torch.Tensor, torch.Tensor]
) -> None:
    before = accuracy(model, data)
    plain = s4edge.compress(model, 8)
    assert accuracy(small, data) >= before - 0.01
    assert accuracy(small, data) > accuracy(plain, data)
    assert small.config.real_states <= plain.config.real_states


def test_the_prediction_holds_where_the_model_is_linear(small: SequenceModel) -> None:
    entry = small.provenance.history[-1]
    error = entry.output_error
    assert error.measured == pytest.approx(error.predicted, rel=0.25)
    for layer in entry.layers:
        assert layer.output_error.measured < 2 * layer.output_error.predicted
    assert error.same_class > 0.97


def test_certificates_hold(model: SequenceModel, small: SequenceModel) -> None:
    for before, after, layer in zip(
        model.blocks, small.blocks, small.provenance.history[-1].layers, strict=True
    ):
        hinf = np.array(layer.channel_error)
        bound = np.array(layer.channel_error_bound)
        lower = np.array(layer.channel_lower_bound)
        h2 = np.array(layer.channel_h2_error)
        assert (lower <= hinf * (1 + 1e-6) + 1e-9).all()
        assert (hinf <= bound * (1 + 1e-6) + 1e-9).all()
        assert (h2 <= hinf * (1 + 1e-6)).all()
        states = after.systems.modes().real_states
        assert layer.channel_real_states == tuple(states.tolist())
        # By the fast Fourier transform of long kernels, D on their first sample.
        difference = (before.systems.kernel(2**15) - after.systems.kernel(2**15)).detach()
        difference[:, 0] += (before.systems.D - after.systems.D).detach().double()
        gain = torch.fft.rfft(difference).abs().amax(dim=1).numpy()
        np.testing.assert_allclose(gain, hinf, rtol=0.05, atol=1e-6)
        np.testing.assert_allclose(difference.norm(dim=1).numpy(), h2, rtol=1e-4, atol=1e-6)


def test_the_original_is_left_alone(model: SequenceModel, small: SequenceModel) -> None:
    fresh = s4edge.load(Path(__file__).parents[3] / "examples" / "digits" / "model.pt")
    assert_identical(tensors_of(model), tensors_of(fresh))
    parameters = {id(parameter) for parameter in model.parameters()}
    assert not parameters & {id(parameter) for parameter in small.parameters()}
    assert all(parameter.requires_grad for parameter in small.parameters())


def test_streams_as_it_convolves(
    small: SequenceModel, data: tuple[torch.Tensor, torch.Tensor]
) -> None:
    x = data[0][:3]
    with torch.no_grad():
        assert torch.allclose(small.stream(x)[:, -1], small(x), atol=1e-4)


def test_the_budget_goes_down_with_the_size(refined: Prepared) -> None:
    totals = np.array([200, 400, 800, 1600])
    budget = refined.budget
    predicted = budget.predicted(totals)
    assert (np.diff(predicted) < 0).all()
    for total in totals:
        assert budget.smallest_total(float(budget.predicted(np.array([total]))[0])) <= total


def test_a_tolerance_is_kept(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = initial_model(1, 10, d_model=12, layers=2, state=32, seed=0)
    loose, tight = (
        s4edge.compress(model, calibration=data[0][:24], tolerance=tolerance, refine=False)
        for tolerance in (0.3, 0.1)
    )
    for small, tolerance in ((loose, 0.3), (tight, 0.1)):
        entry = small.provenance.history[-1]
        assert entry.output_error.measured <= tolerance
        assert entry.tolerance == tolerance
    assert loose.config.real_states < tight.config.real_states < model.config.real_states


def test_gradients_are_those_of_finite_differences(
    model: SequenceModel, data: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """A small change of one channel's feed-through changes the output as its rows say."""
    x = data[0][:40]
    calibration = Calibration(x, None, "x", len(x))
    working = working_copy(model)
    gradients = output_gradients(working, calibration)
    passage = Passage(working, calibration)
    passage.advance()
    u, channel, step = passage.inputs(), 5, 1e-2
    moved = working_copy(model)
    with torch.no_grad():
        moved.blocks[1].systems.D[channel] += step
        change = moved(x) - working(x)
    expected = (gradients.of[1][channel] * u[channel]).sum(dim=1) * step
    # Projections on random signs: their squares are the output's on average over sequences.
    ratio = expected.square().mean() / change.square().sum(dim=1).mean()
    assert 0.6 < float(ratio) < 1.6
    assert float(expected.abs().max()) > 0


def test_descent_makes_it_better(
    model: SequenceModel, data: tuple[torch.Tensor, torch.Tensor]
) -> None:
    x = data[0][:SEQUENCES]
    small = s4edge.compress(model, 4)
    calibration = Calibration(x, None, "x", len(x))
    with torch.no_grad():
        aim = model(x)
        before = float((small(x) - aim).norm())
    slowest = small.blocks[0].systems.pair_log_decay.detach().min()
    descend(small, model, calibration, aim, 10)
    with torch.no_grad():
        assert float((small(x) - aim).norm()) < 0.8 * before
    reference = model.blocks[0].systems.pair_log_decay.detach().min()
    assert small.blocks[0].systems.pair_log_decay.detach().min() >= min(slowest, reference) - 1e-6


# Models of odd shapes, with random tensors


def random_data(model: SequenceModel, length: int = 30, count: int = 20) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, length, model.config.d_input, generator=generator)


RAGGED = ([5, 2, 1, 0, 3], [0, 1, 4, 2, 1], [0] * 5), ([4, 4, 4, 4, 4], [0, 0, 1, 2, 3], [0] * 5)


@pytest.mark.parametrize("allocate", ["uniform", "sensitivity"])
@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("backward", [False, True])
def test_ragged_and_two_directions(allocate: str, refine: bool, backward: bool) -> None:
    model = model_of(*RAGGED, backward=backward)
    x = random_data(model)
    small = s4edge.compress(model, 4, calibration=x, allocate=allocate, refine=refine)
    allowed = 4 * 5 * 2 * (2 if backward else 1)
    assert small.config.real_states <= allowed
    for block in small.blocks:
        for systems in (block.systems, block.backward_systems):
            assert systems is None or systems.modes().is_stable.all()
    error = small.provenance.history[-1].output_error.measured
    with torch.no_grad():
        found = float((small(x) - model(x)).norm() / model(x).norm())
    assert error == pytest.approx(found, rel=1e-3)


def test_growing_modes_are_kept() -> None:
    model = model_of(([4] * 3, [1] * 3, [1] * 3), length=30)
    small = s4edge.compress(model, 6, calibration=random_data(model), allocate="sensitivity")
    assert small.config.blocks[0].systems.growing == (1, 1, 1)
    assert torch.equal(
        small.blocks[0].systems.growing_weight, model.blocks[0].systems.growing_weight
    )
    assert small.config.real_states <= 18


def test_at_full_size_every_tensor_stays_to_the_bit() -> None:
    model = model_of(*RAGGED)
    small = s4edge.compress(model, 11, calibration=random_data(model))
    assert_identical(tensors_of(small), tensors_of(model))
    assert small.provenance.history[-1].output_error.measured == 0


def test_what_stands_behind_a_sequence_does_not_matter() -> None:
    model = model_of(*RAGGED)
    x = random_data(model)
    lengths = np.arange(11, 31)
    results = []
    for seed in (1, 2):
        padded = x.numpy().copy()
        rng = np.random.default_rng(seed)
        for row, end in zip(padded, lengths, strict=True):
            row[end:] = rng.normal(size=row[end:].shape)
        data = Data(padded, None, lengths, "padded")
        results.append(s4edge.compress(model, 4, calibration=data, allocate="sensitivity"))
    assert results[0].config == results[1].config
    with torch.no_grad():
        first, second, aim = (each(x) for each in (*results, model))
    # The garbage is rounded through the transforms, and the descent moves on by that.
    assert (first - second).norm() < 0.05 * (first - aim).norm()


def test_an_output_of_zero_is_refused() -> None:
    model = model_of(*RAGGED)
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.zero_()
    with pytest.raises(S4EdgeError, match="zero throughout"):
        s4edge.compress(model, 4, calibration=random_data(model))


def test_methods_that_move_the_feedthrough(model: SequenceModel) -> None:
    """Their ``D`` is stored, and the error is measured with it."""
    for method in ("singular-perturbation", "hankel"):
        small = s4edge.compress(model, 16, method=method)
        layer = small.provenance.history[-1].layers[0]
        before, after = model.blocks[0].systems, small.blocks[0].systems
        assert not torch.equal(before.D, after.D)
        hinf = np.array(layer.channel_error)
        assert (hinf <= np.array(layer.channel_error_bound) * (1 + 1e-6)).all()
        without = hinf_distance(before.modes(), after.modes())
        assert np.median(hinf / without) < 1
        # At frequency 0 the whole gain is kept.
        if method == "singular-perturbation":
            gain = [s.kernel(2**16).sum(dim=1) + s.D.double() for s in (before, after)]
            scale = gain[0].detach().abs() + 1
            assert float(((gain[0] - gain[1]).detach().abs() / scale).max()) < 1e-3


def test_a_layer_without_feedthrough_gets_one_where_it_must() -> None:
    model = model_of(*RAGGED)
    systems = dataclasses.replace(model.blocks[0].systems.config, feedthrough=False)
    block = dataclasses.replace(model.config.blocks[0], systems=systems)
    config = dataclasses.replace(model.config, blocks=(block, model.config.blocks[1]))
    bare = SequenceModel(config)
    tensors = {k: v for k, v in model.state_dict().items() if k != "blocks.0.systems.D"}
    bare.load_state_dict(tensors)
    assert not s4edge.compress(bare, 4).blocks[0].systems.config.feedthrough
    refined = s4edge.compress(bare, 4, calibration=random_data(bare))
    assert not refined.blocks[0].systems.config.feedthrough
    assert s4edge.compress(bare, 4, method="hankel").blocks[0].systems.config.feedthrough


@pytest.mark.parametrize("refine", [False, True])
def test_a_layer_is_fitted_to_what_the_layers_before_it_deliver_reduced(
    refine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a layer reads when it is fitted is what the blocks before it give in the small model."""
    model = model_of(*RAGGED)
    x = random_data(model)
    seen: list[tuple[int, torch.Tensor, torch.Tensor]] = []
    measure = Observed.layer_error

    def spy(
        self: Observed, unit: Unit, original: torch.Tensor, reached: torch.Tensor
    ) -> LayerError:
        seen.append((unit.block, original, reached))
        return measure(self, unit, original, reached)

    monkeypatch.setattr(Observed, "layer_error", spy)
    # All layers together would move what was fitted one by one.
    monkeypatch.setattr("s4edge.compression.states.reducing._NOT_LINEAR", np.inf)
    small = s4edge.compress(model, 3, calibration=x, refine=refine)
    with torch.no_grad():
        entering = {
            name: each.blocks[1].before(each.blocks[0](each.encode(x))).permute(2, 0, 1)
            for name, each in (("original", model), ("reached", small))
        }
    (_, original, reached), *more = [entry for entry in seen if entry[0] == 1]
    assert not more
    assert float((entering["original"] - entering["reached"]).abs().max()) > 1e-2
    torch.testing.assert_close(original, entering["original"], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(reached, entering["reached"], atol=1e-5, rtol=1e-4)
