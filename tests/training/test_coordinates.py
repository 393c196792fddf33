"""What is trained in place of poles and weights, and the models that training starts from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models_by_hand import random_model
from test_block_variants import BLOCKS, LENGTH, model_of, sequences
from torch import Tensor, nn
from torch.func import functional_call

from s4edge.errors import S4EdgeError
from s4edge.training.batches import Batch, Sequences
from s4edge.training.initial import initial_model, poles
from s4edge.training.processes import Processes
from s4edge.training.trainable import Trainable


def disturbed(trainable: Trainable, size: float, seed: int = 0) -> Trainable:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in trainable.coordinates.parameters():
            each += size * torch.randn(each.shape, generator=generator, dtype=each.dtype)
    return trainable


def test_the_start_is_the_model_to_the_bit() -> None:
    model = random_model()
    written = Trainable(model, 30).written()
    for name, tensor in model.state_dict().items():
        assert torch.equal(written.state_dict()[name], tensor), name


def test_a_run_keeps_numbers_and_not_which_channel_they_are_of() -> None:
    """That is the configuration's; a file of a run holds what is named here."""
    trainable = Trainable(random_model(), 30)
    assert not [name for name in trainable.state_dict() if "channel" in name]


@pytest.mark.parametrize("size", [0.1, 3.0, 30.0])
def test_poles_stay_inside_the_unit_circle(size: float) -> None:
    model = disturbed(Trainable(random_model(), 30), size).written()
    for block in model.blocks:
        assert (np.abs(block.systems.modes().pole) < 1).all()


@pytest.mark.parametrize("change", [-100.0, 100.0])
def test_decays_may_go_anywhere(change: float) -> None:
    trainable = Trainable(random_model(), 30)
    with torch.no_grad():
        for each in trainable.moved:
            each.coordinates.decay += change
            each.coordinates.real_decay += change
    for block in trainable.written().blocks:
        assert (np.abs(block.systems.modes().pole) < 1).all()
        assert block.systems.kernel(30).isfinite().all()


def test_what_is_trained_is_what_is_written() -> None:
    trainable = disturbed(Trainable(random_model(), 30), 0.1)
    x = torch.randn(3, 30, 2)
    found, left = trainable.trace(x)
    written = trainable.written()
    torch.testing.assert_close(found, written(x), rtol=1e-5, atol=1e-5)
    assert [each.shape for each in left] == [(3, 30, 6)] * 2


class Traced(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self.model.trace(x)  # type: ignore[operator]


def whole_loss(batch: Batch, output: Tensor, left: list[Tensor]) -> Tensor:
    return output.square().sum() + sum(each.sum() for each in left)


def test_a_model_that_looks_across_the_batch_is_refused() -> None:
    with pytest.raises(S4EdgeError, match="batch norms keep no statistics"):
        Trainable(model_of("batch"), LENGTH)


@pytest.mark.parametrize("name", [name for name in BLOCKS if name != "batch"])
def test_gradients_part_by_part(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against autograd through the whole model at once, in double precision."""
    monkeypatch.setattr("s4edge.training.trainable._PART", 2 * LENGTH * 4)  # two sequences a part
    x = sequences(5)
    trainable = disturbed(Trainable(model_of(name), LENGTH), 0.1)
    batch = Sequences(x.float(), None, None).batch(np.arange(5), Processes())
    loss = trainable(batch, whole_loss)
    loss.backward()
    plain = Trainable(model_of(name), LENGTH)
    plain.load_state_dict(trainable.state_dict())
    plain.double().model.set_fast(False)
    values = {f"model.{key}": value for key, value in plain.values().items()}
    expected = whole_loss(batch, *functional_call(Traced(plain.model), values, (x,)))
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for (key, found), reference in zip(
        trainable.named_parameters(), plain.parameters(), strict=True
    ):
        if found.requires_grad and found.numel():
            assert found.grad is not None, key
            wanted = torch.zeros_like(reference) if reference.grad is None else reference.grad
            error = (found.grad - wanted).norm()
            assert error <= 1e-4 * wanted.norm() + 1e-6, key


def test_a_step_scales_poles_and_weights_together() -> None:
    model = random_model()
    trainable = Trainable(model, 30)
    change = torch.linspace(-0.5, 0.2, 6)
    with torch.no_grad():
        trainable.coordinates[0].step += change
    before, after = (m.blocks[0].systems.modes() for m in (model, trainable.written()))
    factor = np.exp(change.numpy())[before.channel]
    # A real pole keeps its sign; only its decay scales.
    pair = ~before.is_real
    np.testing.assert_allclose(
        after.log_pole[pair], (before.log_pole * factor)[pair], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(after.weight, before.weight * factor, rtol=1e-5, atol=1e-6)


def test_only_what_is_trained_has_gradients() -> None:
    trainable = Trainable(random_model(), 30)
    trainable.trace(torch.randn(2, 30, 2))[0].sum().backward()
    for name, parameter in trainable.named_parameters():
        if parameter.numel():
            assert (parameter.grad is not None) == parameter.requires_grad, name


def test_legs_against_the_dense_matrix() -> None:
    size = 16
    n = np.arange(size)
    root = np.sqrt(2 * n + 1)
    A = -np.where(n[:, None] > n, np.outer(root, root), np.diag(n + 1.0))
    P = np.sqrt(n + 0.5)
    expected = np.linalg.eigvals(A + np.outer(P, P))
    expected = np.sort_complex(1j * expected[expected.imag > 0].imag - 0.5)
    found = poles("legs", size // 2)
    np.testing.assert_allclose(np.sort(found.imag), np.sort(expected.imag), rtol=1e-9)
    np.testing.assert_allclose(expected.real, found.real, atol=1e-9)


def test_an_initial_kernel_by_its_formula() -> None:
    model = initial_model(1, 2, d_model=3, layers=1, state=8, seed=0, start="lin")
    systems = model.blocks[0].systems
    modes = systems.modes()
    log_pole, weight = (each.reshape(3, 4) for each in (modes.log_pole, modes.weight))
    dt = -2 * log_pole[:, 0].real
    np.testing.assert_allclose(log_pole[:, 2], dt * (-0.5 + 2j * np.pi), rtol=1e-5)
    assert ((dt > 1e-3) & (dt < 1e-1)).all()
    k = np.arange(20)
    expected = (weight[..., None] * np.exp(log_pole[..., None] * k)).sum(1).real
    np.testing.assert_allclose(systems.kernel(20).detach(), expected, atol=1e-6)
    with pytest.raises(S4EdgeError, match="even state size"):
        initial_model(1, 2, d_model=3, layers=1, state=5, seed=0)


@pytest.mark.parametrize(("start", "tolerance"), [("legs", 1e-5), ("lin", 1e-3)])
def test_an_initial_kernel_from_its_random_numbers(start, tolerance) -> None:  # type: ignore[no-untyped-def]
    """``2 Re sum C (exp(dt A) - 1) / A exp(dt A k)``, upstream's S4D with a zero-order hold."""
    model = initial_model(1, 2, d_model=3, layers=1, state=8, seed=5, start=start)
    rng = np.random.default_rng(5)
    dt = np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), (3, 1)))
    C = (rng.normal(size=(3, 4)) + 1j * rng.normal(size=(3, 4))) / np.sqrt(2)
    A = -0.5 + 1j * np.pi * np.arange(4) if start == "lin" else poles("legs", 4)
    k = np.arange(200)
    each = (C * (np.exp(dt * A) - 1) / A)[..., None] * np.exp((dt * A)[..., None] * k)
    expected = 2 * each.sum(1).real
    found = model.blocks[0].systems.kernel(200).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())
