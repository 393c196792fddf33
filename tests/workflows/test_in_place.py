"""Reduction in place, inside modules of the user's own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import s4edge
from s4edge.workflows.in_place import CompressedLayer

FEATURES, STATES, LENGTH = 4, 12, 50


class Kernel(nn.Module):
    """``2 Re sum C (exp(dt A) - 1) / A exp(dt A k)``, parametrized as the minimal S4D's."""

    def __init__(self, features: int, half: int) -> None:
        super().__init__()
        self.log_dt = nn.Parameter(torch.linspace(-4, -2, features))
        self.C = nn.Parameter(torch.randn(features, half, 2))
        self.log_A_real = nn.Parameter(-0.7 + 0.3 * torch.randn(features, half))
        self.A_imag = nn.Parameter(3.0 * torch.arange(half).repeat(features, 1) + 1)

    def forward(self, length: int) -> Tensor:
        A = torch.complex(-self.log_A_real.exp(), self.A_imag)
        z = A * self.log_dt.exp()[:, None]
        weight = torch.view_as_complex(self.C) * (z.exp() - 1) / A
        powers = torch.exp(z[..., None] * torch.arange(length, device=z.device))
        return 2 * torch.einsum("hn,hnl->hl", weight, powers).real


class OwnLayer(nn.Module):
    """A diagonal layer with the parameters' names of the minimal S4D, convolved directly."""

    def __init__(self, features: int = FEATURES, states: int = STATES, transposed: bool = True):
        super().__init__()
        self.transposed = transposed
        self.D = nn.Parameter(torch.randn(features))
        self.kernel = Kernel(features, states // 2)
        gate = nn.GLU(dim=-2)
        self.output_linear = nn.Sequential(nn.Conv1d(features, 2 * features, 1), gate)
        self.factor = 1.0

    def forward(self, u: Tensor, **kwargs: Any) -> tuple[Tensor, None]:
        u = u if self.transposed else u.mT
        length = u.shape[-1]
        padded = nn.functional.pad(u, (length - 1, 0))
        kernel = self.kernel(length).flip(-1)[:, None]
        y = nn.functional.conv1d(padded, kernel, groups=len(self.D)) + u * self.D[:, None]
        y = self.output_linear(nn.functional.gelu(self.factor * y))
        return (y if self.transposed else y.mT), None


class Around(nn.Module):
    """A residual block whose layer is called ``layer``, as in an S4Block."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.norm = nn.LayerNorm(FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.layer(x, lengths=None)
        return x + self.norm(y.mT).mT


class Backbone(nn.Module):
    """Something that upstream never had: two branches, one layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inward = nn.Conv1d(2, FEATURES, 1)
        self.blocks = nn.ModuleList([Around(OwnLayer()), Around(OwnLayer())])
        self.branch = nn.ModuleDict({"again": self.blocks[0]})
        self.outward = nn.Linear(FEATURES, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inward(x)
        for block in self.blocks:
            x = block(x)
        return self.outward((x + self.branch["again"](x)).mean(-1))


@pytest.fixture
def backbone() -> Backbone:
    torch.manual_seed(0)
    return Backbone().eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 2, LENGTH, generator=torch.Generator().manual_seed(1))


def test_layers_are_replaced_and_the_backbone_runs_on(backbone: Backbone, x: Tensor) -> None:
    with torch.no_grad():
        before = backbone(x)
        report = s4edge.compress_(backbone, state=8)
        after = backbone(x)
    assert [each.name for each in report] == ["blocks.0.layer", "blocks.1.layer"]
    for each in report:
        assert each.real_states_before == FEATURES * STATES
        assert each.real_states_after == FEATURES * 8
        assert each.error_bound is not None
        assert 0 < each.error <= each.error_bound
    replaced = [block.layer for block in backbone.blocks]  # type: ignore[union-attr]
    assert all(isinstance(layer, CompressedLayer) for layer in replaced)
    assert not any(isinstance(module, OwnLayer) for module in backbone.modules())
    assert 0 < (after - before).abs().max() < 0.3 * before.abs().max()


def test_with_nothing_removed_it_computes_the_same(backbone: Backbone, x: Tensor) -> None:
    whole = copy.deepcopy(backbone)
    report = s4edge.compress_(backbone, STATES)
    assert [each.error for each in report] == [0, 0]
    with torch.no_grad():
        torch.testing.assert_close(backbone(x), whole(x), rtol=0, atol=1e-5)


def test_the_replacement_trains_and_saves(backbone: Backbone, x: Tensor) -> None:
    s4edge.compress_(backbone.train(), 4)
    assert all(module.training for module in backbone.modules())
    optimizer = torch.optim.Adam(backbone.parameters(), 1e-2)
    losses = []
    for _ in range(20):
        loss = (backbone(x) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    layer = backbone.blocks[0].layer  # type: ignore[union-attr]
    assert all(p.grad is not None for p in layer.parameters() if p.numel())
    copied = copy.deepcopy(backbone)
    copied.load_state_dict(backbone.state_dict(), strict=True)


def test_layers_that_take_features_last(x: Tensor) -> None:
    torch.manual_seed(0)
    holder = nn.Sequential(OwnLayer(transposed=False)).eval()
    u = torch.randn(2, LENGTH, FEATURES)
    with torch.no_grad():
        before, _ = holder(u)
        s4edge.compress_(holder, STATES)
        after, state = holder(u)
    assert state is None
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


def test_float64_stays_float64() -> None:
    torch.manual_seed(0)
    holder = nn.Sequential(OwnLayer().double())
    s4edge.compress_(holder, 8)
    y, _ = holder(torch.randn(1, FEATURES, LENGTH, dtype=torch.float64))
    assert y.dtype == torch.float64


def unchanged(module: nn.Module, kinds: list[type]) -> bool:
    return [type(each) for each in module.modules()] == kinds


def test_nothing_is_changed_if_one_layer_fails(backbone: Backbone) -> None:
    layer: Any = backbone.blocks[1].layer  # type: ignore[union-attr]
    layer.factor = 2.0  # its parameters do not tell
    kinds = [type(each) for each in backbone.modules()]
    values = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(s4edge.S4EdgeError, match=r"^blocks\.1\.layer: it computes something else"):
        s4edge.compress_(backbone.train(), 8)
    assert unchanged(backbone, kinds)
    assert all(module.training for module in backbone.modules())
    assert all(torch.equal(value, values[k]) for k, value in backbone.state_dict().items())


def test_a_layer_of_another_calling_convention_is_refused() -> None:
    class Tokens(OwnLayer):
        def forward(self, u: Tensor, mask: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
            return super().forward(u * mask)

    holder = nn.Sequential(Tokens())
    with pytest.raises(s4edge.S4EdgeError, match="does not run on"):
        s4edge.compress_(holder, 8)
    assert isinstance(holder[0], Tokens)


@pytest.mark.parametrize(
    ("module", "state", "words"),
    [
        (nn.Sequential(nn.Linear(3, 3)), 8, "no layer"),
        (OwnLayer(), 8, "is such a layer itself"),
        (nn.Sequential(OwnLayer()), STATES + 1, "larger than"),
        (nn.Sequential(OwnLayer()), 0, "from 1 up"),
    ],
)
def test_what_cannot_be_done_is_said(module: nn.Module, state: int, words: str) -> None:
    kinds = [type(each) for each in module.modules()]
    with pytest.raises(s4edge.S4EdgeError, match=words):
        s4edge.compress_(module, state)
    assert unchanged(module, kinds)


def test_facts_of_no_meaning_are_refused() -> None:
    with pytest.raises(s4edge.S4EdgeError, match="disk=zoh"):
        s4edge.compress_(nn.Sequential(OwnLayer()), 8, facts={"disk": "zoh"})


def test_what_a_reduced_layer_cannot_take_is_refused(backbone: Backbone) -> None:
    s4edge.compress_(backbone, 8)
    layer: Any = backbone.blocks[0].layer  # type: ignore[union-attr]
    u = torch.randn(2, FEATURES, LENGTH)
    with pytest.raises(s4edge.S4EdgeError, match="no state"):
        layer(u, state=torch.zeros(1))
    with torch.no_grad():
        short, _ = layer(u, lengths=torch.tensor([LENGTH, 30]))
        masked = u.clone()
        masked[1, :, 30:] = 0
        torch.testing.assert_close(short, layer(masked)[0])


def test_parameters_that_share_memory_are_read_and_left_alone() -> None:
    """As those of version 2, which are one system expanded over the features."""
    layer = OwnLayer()
    one = -0.7 + 0.3 * torch.randn(1, STATES // 2)
    layer.kernel.log_A_real = nn.Parameter(one.expand(FEATURES, STATES // 2))
    model = nn.Sequential(layer)
    (replaced,) = s4edge.compress_(model, STATES)
    assert replaced.error < 1e-6
    torch.testing.assert_close(layer.kernel.log_A_real[0], one[0])
