"""The Hankel nuclear norm against Hankel singular values, and what it does in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4edge.model.sequence_model import SequenceModel
from s4edge.systems.balancing import hankel_singular_values
from s4edge.training.initial import initial_model
from s4edge.training.nuclear_norm import NuclearNorm, _cross_gramian, _sign
from s4edge.training.trainable import Trainable


def make() -> Trainable:
    return Trainable(initial_model(1, 2, d_model=4, layers=2, state=8, seed=0), 50)


def nuclear_norms(model: SequenceModel) -> np.ndarray:
    """Of every channel, layer by layer, from balancing."""
    return np.array(
        [
            each.sum()
            for block in model.blocks
            for each in hankel_singular_values(block.systems.modes())
        ]
    )


def test_against_hankel_singular_values() -> None:
    trainable = make()
    penalty = NuclearNorm(trainable)
    assert penalty().item() == pytest.approx(1)  # relative to the start
    expected = [
        sum(each.sum() for each in hankel_singular_values(block.systems.modes()))
        for block in trainable.model.blocks
    ]
    found = [float(each.sum()) for each in penalty.scales]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_gradient_against_differences() -> None:
    rng = np.random.default_rng(0)
    log_pole = torch.from_numpy(-np.exp(rng.uniform(-3, 0, (1, 3))) + 1j * rng.uniform(0.1, 3, 3))
    weight = torch.from_numpy(rng.normal(size=(1, 3)) + 1j * rng.normal(size=(1, 3)))

    def norm(z: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        X = _cross_gramian(z, w)
        return torch.einsum("hij,hji->h", _sign(X.detach()), X).real

    assert torch.autograd.gradcheck(norm, (log_pole.requires_grad_(), weight.requires_grad_()))


def test_descent_lowers_it() -> None:
    trainable = make()
    penalty = NuclearNorm(trainable)
    optimizer = torch.optim.Adam(trainable.coordinates.parameters(), 1e-2)
    for _ in range(30):
        loss = penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert penalty().item() < 0.9
    before, after = nuclear_norms(make().written()), nuclear_norms(trainable.written())
    assert (after / before).mean() == pytest.approx(penalty().item(), rel=1e-4)


def test_gradient_of_coordinates_against_differences_of_balancing() -> None:
    model = initial_model(1, 2, d_model=2, layers=2, state=6, seed=1).double()
    trainable = Trainable(model, 50)
    NuclearNorm(trainable)().backward()
    start = nuclear_norms(trainable.written())
    width = 1e-5
    for coordinates in trainable.coordinates:
        for name in ("step", "decay", "angle", "weight"):
            parameter = coordinates.get_parameter(name)
            direction = torch.randn(
                parameter.shape, generator=torch.Generator().manual_seed(0), dtype=parameter.dtype
            )
            sides = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter.copy_(sign * width * direction)
                sides.append((nuclear_norms(trainable.written()) / start).mean())
            with torch.no_grad():
                parameter.zero_()
            assert parameter.grad is not None
            slope = float((parameter.grad * direction).sum())
            assert (sides[0] - sides[1]) / (2 * width) == pytest.approx(slope, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("silent", [slice(0, 1), slice(0, 4)], ids=["a mode", "a channel"])
def test_weights_of_zero_have_finite_gradients(silent: slice) -> None:
    model = initial_model(1, 2, d_model=4, layers=1, state=8, seed=0)
    with torch.no_grad():
        model.blocks[0].systems.pair_weight[silent] = 0
    trainable = Trainable(model, 50)
    penalty = NuclearNorm(trainable)
    penalty().backward()
    for parameter in trainable.coordinates.parameters():
        if parameter.grad is not None and parameter.numel():
            assert parameter.grad.abs().max() < 10
    # A channel that was silent may become heard without a price of its own.
    with torch.no_grad():
        trainable.coordinates[0].get_parameter("weight")[silent] += 1e-3
    penalty.renew()
    assert penalty().item() < 1.1
