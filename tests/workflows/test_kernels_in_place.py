"""Reduction in place of kernels inside layers that no reader knows."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import s4edge
from s4edge.workflows.kernels_in_place import CompressedKernel

FEATURES, HALF, LENGTH = 3, 6, 20


class DiagonalKernel(nn.Module):
    """Of version 4, by definition: zero-order hold, ``2 Re sum C B (exp(dt A) - 1) / A ...``."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.inv_dt = nn.Parameter(torch.linspace(-3, -1, FEATURES)[:, None])
        self.A_real = nn.Parameter(-0.7 + 0.3 * torch.randn(FEATURES, HALF))
        self.A_imag = nn.Parameter(3.0 * torch.arange(HALF).repeat(FEATURES, 1) + 1)
        self.B = nn.Parameter(torch.randn(1, FEATURES, HALF, 2))
        self.C = nn.Parameter(torch.randn(channels, FEATURES, HALF, 2))
        self.disc = "zoh"
        self.factor = 1.0

    def forward(self, state: None = None, L: int = 0, rate: float = 1.0) -> tuple[Tensor, None]:
        A = torch.complex(-self.A_real.exp(), -self.A_imag)
        z = A * self.inv_dt.exp()
        B, C = (torch.view_as_complex(each) for each in (self.B, self.C))
        weight = C * B * (z.exp() - 1) / A
        powers = torch.exp(z[..., None] * torch.arange(L))
        return self.factor * 2 * torch.einsum("chn,hnl->chl", weight, powers).real, None


class OlderKernel(nn.Module):
    """Of version 3 and H3: other names, bilinear."""

    def __init__(self) -> None:
        super().__init__()
        self.log_dt = nn.Parameter(torch.linspace(-3, -1, FEATURES))
        self.inv_A_real = nn.Parameter(-0.7 + 0.3 * torch.randn(FEATURES, HALF))
        self.A_imag = nn.Parameter(3.0 * torch.arange(HALF).repeat(FEATURES, 1) + 1)
        self.B = nn.Parameter(torch.randn(FEATURES, HALF, 2))
        self.C = nn.Parameter(torch.randn(1, FEATURES, HALF, 2))
        self.disc, self.real_type = "bilinear", "exp"

    def forward(self, state: None = None, L: int = 0, rate: float = 1.0) -> tuple[Tensor, None]:
        dt = self.log_dt.exp()[:, None]
        z = torch.complex(-self.inv_A_real.exp(), self.A_imag) * dt
        B, C = (torch.view_as_complex(each) for each in (self.B, self.C))
        weight = C * B * dt / (1 - z / 2)
        powers = ((1 + z / 2) / (1 - z / 2))[..., None] ** torch.arange(L)
        return 2 * torch.einsum("chn,hnl->chl", weight, powers).real, None


class Averages(nn.Module):
    """Mega's: real poles."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("alpha", "delta", "beta"):
            self.register_parameter(name, nn.Parameter(torch.randn(FEATURES, HALF, 1)))
        self.gamma = nn.Parameter(torch.randn(FEATURES, HALF))

    def forward(self, state: None = None, L: int = 0, rate: float = 1.0) -> tuple[Tensor, None]:
        p = torch.sigmoid(self.delta)
        powers = (1 - p * torch.sigmoid(self.alpha)) ** torch.arange(L)
        weight = p * self.beta * self.gamma[..., None] * HALF**-0.5
        return (weight * powers).sum(1)[None], None


def convolve(kernel: Tensor, u: Tensor) -> Tensor:
    """(features, length) kernels along the last axis of ``u``, whatever is before it."""
    length = u.shape[-1]
    spectrum = torch.fft.rfft(kernel, n=2 * length) * torch.fft.rfft(u, n=2 * length)
    return torch.fft.irfft(spectrum, n=2 * length)[..., :length]


class Products(nn.Module):
    """As in H3: the systems read a product, their answer is multiplied again."""

    def __init__(self, kernel: nn.Module) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(FEATURES, FEATURES) for _ in range(3))
        self.D = nn.Parameter(torch.randn(FEATURES))
        self.kernel = nn.Module()
        self.kernel.kernel = kernel
        # What H3 is told by.
        self.ssm_k_kernel = nn.Module()
        self.ssm_k_kernel.C = nn.Parameter(torch.randn(1, FEATURES, 4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (each(x).mT for each in (self.q, self.k, self.v))
        kernels, _ = self.kernel.kernel(L=x.shape[1], state=None, rate=1.0)
        product = k * v
        y: Tensor = q * (convolve(kernels[0], product) + self.D[:, None] * product)
        return y.mT


class Images(nn.Module):
    """As in S4ND: one kernel along each axis."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.ModuleList(DiagonalKernel(channels=2) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for axis, kernel in enumerate(self.kernel, start=-2):
            kernels, _ = kernel(L=x.shape[axis], rate=1.0)
            x = x.movedim(axis, -1)
            x = convolve(kernels.sum(0)[:, None], x).movedim(-1, axis)
        return x


class CutLayer(nn.Module):
    """Of version 3 with ``linear``: it is known whole, and cuts its kernel at ``L``."""

    def __init__(self, length: int | None) -> None:
        super().__init__()
        self.L, self.transposed = length, True
        self.D = nn.Parameter(torch.randn(1, FEATURES))
        self.kernel = nn.Module()
        self.kernel.kernel = OlderKernel()

    def forward(self, u: Tensor, **kwargs: Any) -> tuple[Tensor, None]:
        kernels, _ = self.kernel.kernel(L=min(u.shape[-1], self.L or u.shape[-1]))
        return convolve(kernels[0], u) + self.D[0][:, None] * u, None


MODULES: dict[str, tuple[Any, tuple[int, ...], int]] = {
    "H3": (lambda: Products(OlderKernel()), (2, LENGTH, FEATURES), 1),
    "S4ND": (Images, (2, FEATURES, 7, 9), 2),
    "Mega": (lambda: Products(Averages()), (2, LENGTH, FEATURES), 1),
    "version 4": (lambda: Products(DiagonalKernel()), (2, LENGTH, FEATURES), 1),
}


@pytest.mark.parametrize("name", MODULES)
def test_with_nothing_removed_it_computes_the_same_and_then_almost(name: str) -> None:
    build, shape, kernels = MODULES[name]
    torch.manual_seed(0)
    module = build()
    whole, small = copy.deepcopy(module), copy.deepcopy(module)
    x = torch.randn(shape)
    size = HALF if name == "Mega" else 2 * HALF
    assert len(s4edge.compress_(whole, size)) == kernels
    report = s4edge.compress_(small, size - 2)
    with torch.no_grad():
        y = module(x)
        torch.testing.assert_close(whole(x), y, rtol=0, atol=2e-5 * float(y.abs().max()))
        assert 0 < (small(x) - y).abs().max() < 0.5 * y.abs().max()
    for each in report:
        assert each.real_states_after < each.real_states_before
    assert sum(isinstance(each, CompressedKernel) for each in small.modules()) == kernels


def test_it_trains_and_keeps_its_precision() -> None:
    torch.manual_seed(0)
    module = Products(DiagonalKernel()).double()
    s4edge.compress_(module, 6)
    x = torch.randn(2, LENGTH, FEATURES, dtype=torch.float64)
    loss = module(x).square().mean()
    assert loss.dtype == torch.float64
    loss.backward()
    gradients = [p.grad for p in module.kernel.kernel.parameters() if p.numel()]
    assert any(g is not None and g.abs().max() > 0 for g in gradients)


def test_a_kernel_that_computes_something_else_is_refused() -> None:
    kernel = DiagonalKernel()
    kernel.factor = 1.1
    module = Products(kernel)
    with pytest.raises(s4edge.S4EdgeError, match=r"kernel.kernel: it computes something else"):
        s4edge.compress_(module, 6)
    assert module.kernel.kernel is kernel


def test_what_a_reduced_kernel_cannot_do_is_said() -> None:
    module = Products(DiagonalKernel())
    s4edge.compress_(module, 6)
    kernel = module.kernel.kernel
    for arguments in ({"L": 8, "rate": 2.0}, {"L": 8, "state": torch.zeros(1)}, {}):
        with pytest.raises(s4edge.S4EdgeError, match="a compressed kernel"):
            kernel(**arguments)


@pytest.mark.parametrize("length", [None, 16, LENGTH])
def test_where_a_layer_of_version_3_cuts_its_kernel_is_carried(length: int | None) -> None:
    torch.manual_seed(0)
    module = nn.ModuleList([CutLayer(length)])
    whole = copy.deepcopy(module)
    report = s4edge.compress_(whole, 2 * HALF, {"hyper_act": None})
    assert [each.name for each in report] == ["0"]
    u = torch.randn(1, FEATURES, 3 * LENGTH)
    with torch.no_grad():
        y = module[0](u)[0]
        torch.testing.assert_close(whole[0](u)[0], y, rtol=0, atol=2e-5 * float(y.abs().max()))
