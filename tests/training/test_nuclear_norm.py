"""The Hankel nuclear norm against Hankel singular values, and what it does in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4edge.reduction.balanced import hankel_singular_values
from s4edge.training.initial import initial_model
from s4edge.training.nuclear_norm import NuclearNorm, _cross_gramian, _sign
from s4edge.training.trainable import Trainable


def make() -> Trainable:
    return Trainable(initial_model(1, 2, d_model=4, layers=2, state=8, seed=0), 50)


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
