"""Layers with time last in memory against torch's own."""

from __future__ import annotations

import pytest
import torch
from models_by_hand import random_model
from test_block_variants import BLOCKS, model_of, sequences
from torch import Tensor, nn

from s4edge.model.joining import join
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.time_last import glu, is_time_last, linear, linear_time_last, norm
from s4edge.training.initial import initial_model


def both_orders(features: int = 6) -> list[Tensor]:
    x = torch.randn(3, 5, features, dtype=torch.float64)
    return [x, x.mT.contiguous().mT]


def layers() -> list[tuple[str, object, object]]:
    dense = nn.Linear(6, 4).double()
    layer = nn.LayerNorm(6).double()
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return [
        ("linear", lambda x: linear(dense, x), dense),
        ("linear_time_last", lambda x: linear_time_last(dense, x), dense),
        ("glu", glu, nn.functional.glu),
        ("norm", lambda x: norm(layer, x), layer),
    ]


@pytest.mark.parametrize(("name", "ours", "torchs"), layers(), ids=lambda each: str(each)[:16])
def test_against_torch(name: str, ours, torchs) -> None:  # type: ignore[no-untyped-def]
    for x in both_orders():
        y = ours(x)
        torch.testing.assert_close(y, torchs(x), rtol=0, atol=1e-12)
        assert is_time_last(y) == (is_time_last(x) or name == "linear_time_last")
        assert torch.autograd.gradcheck(ours, (x.clone().requires_grad_(),))


@pytest.mark.parametrize(
    ("ours", "make"),
    [
        (norm, lambda: nn.LayerNorm(6)),
        (linear, lambda: nn.Linear(6, 4)),
        (linear_time_last, lambda: nn.Linear(6, 4)),
        (linear, lambda: nn.Linear(6, 4, bias=False)),
    ],
)
def test_gradients_of_weights(ours, make) -> None:  # type: ignore[no-untyped-def]
    for x in both_orders():
        layer = make().double()
        torch.nn.init.normal_(layer.weight)
        weights = tuple(layer.parameters())
        found = torch.autograd.grad((ours(layer, x) ** 3).sum(), weights)
        expected = torch.autograd.grad((layer(x) ** 3).sum(), weights)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("encoder", ["linear", "embedding"])
def test_a_fast_model_is_the_same_model(encoder) -> None:  # type: ignore[no-untyped-def]
    model = initial_model(5, 3, d_model=6, layers=2, state=4, seed=0, encoder=encoder)
    x = torch.randint(5, (4, 20)) if encoder == "embedding" else torch.randn(4, 20, 5)
    before, expected = gradients(model, x)
    check_fast_and_back(model, x, before, expected)


def check_fast_and_back(
    model: SequenceModel, x: Tensor, before: Tensor, expected: list[Tensor]
) -> None:
    after, found = gradients(model.set_fast(True), x)
    assert distance(after, before) < 1e-4
    for ours, theirs in zip(found, expected, strict=True):
        assert distance(ours, theirs) < 1e-4
    again, restored = gradients(model.set_fast(False), x)
    assert torch.equal(again, before)
    assert all(map(torch.equal, restored, expected))


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / (expected.norm() + 1e-12))


@pytest.mark.parametrize("name", BLOCKS)
def test_a_fast_model_with_any_block(name: str) -> None:
    model, x = model_of(name), sequences(3).float()
    check_fast_and_back(model, x, *gradients(model, x))


def gradients(model: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    y = model(x)
    wanted = [p for p in model.parameters() if p.numel()]
    grads = torch.autograd.grad(y.square().sum(), wanted, allow_unused=True)
    return y.detach(), [each for each in grads if each is not None]


@pytest.mark.parametrize("pooling", ["mean", "last", "none"])
def test_ragged_channels_pre_norm_and_other_activations(pooling: str) -> None:
    model = random_model(1, pooling=pooling)
    x = torch.randn(3, 40, 2)
    check_fast_and_back(model, x, *gradients(model, x))


def test_a_norm_that_overflows_says_so() -> None:
    x = (1e30 * torch.randn(2, 5, 6)).mT.contiguous().mT
    layer = nn.LayerNorm(6)
    assert torch.equal(norm(layer, x).isnan(), layer(x).isnan())
    assert norm(layer, x).isnan().all()


def test_averages_of_samples_stay_time_last() -> None:
    generator = torch.Generator().manual_seed(0)
    for length in (12, 14):
        x = torch.randn(2, 5, length, generator=generator).mT
        y = join("mean", 3, x)
        assert is_time_last(y)
        torch.testing.assert_close(y, join("mean", 3, x.contiguous()))
