from __future__ import annotations

import numpy as np
import pytest
import torch
from models_by_hand import random_modes

from s4edge import S4EdgeError
from s4edge.model.systems.diagonal import DiagonalSystems
from s4edge.systems.modes import Modes


def systems_of(modes: Modes, length: int | None = None) -> DiagonalSystems:
    D = np.random.default_rng(1).standard_normal(modes.channels)
    return DiagonalSystems.from_modes(
        modes, D, kind="test", state_size=9, states_per_size=1, length=length
    ).double()


def precise(modes: Modes, **options: int) -> DiagonalSystems:
    """Not rounded to float32 on the way."""
    torch.set_default_dtype(torch.float64)
    try:
        return systems_of(modes, **options)
    finally:
        torch.set_default_dtype(torch.float32)


def recurrence(systems: DiagonalSystems, u: torch.Tensor) -> torch.Tensor:
    state = u.new_zeros(len(u), systems.state_width)
    outputs = []
    for sample in u.unbind(1):
        y, state = systems.step(sample, state)
        outputs.append(y)
    return torch.stack(outputs, 1)


@pytest.mark.parametrize("length", [1, 2, 7, 64, 1000])
def test_kernel_is_the_sum_over_modes(length: int) -> None:
    modes = random_modes(np.random.default_rng(2), 6)
    with torch.inference_mode():
        kernel = precise(modes).kernel(length).numpy()
    np.testing.assert_allclose(kernel, modes.kernel(length), atol=1e-11)


def test_modes_survive_the_round_trip() -> None:
    modes = random_modes(np.random.default_rng(3), 6)
    back = precise(modes).modes()
    assert back.real_states.tolist() == modes.real_states.tolist()
    np.testing.assert_allclose(back.kernel(200), modes.kernel(200), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("slowest", [1e-2, 1e-4, 1e-6])
def test_convolution_and_recurrence_agree(dtype: torch.dtype, slowest: float) -> None:
    modes = random_modes(np.random.default_rng(4), 6, slowest=slowest)
    systems = precise(modes).to(dtype)
    u = torch.randn(2, 3000, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.inference_mode():
        convolved, stepped = systems(u), recurrence(systems, u)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    assert (convolved - stepped).abs().max() < tolerance * convolved.abs().max()


def test_unstable_modes_are_refused_by_channel() -> None:
    modes = Modes.make([-0.1, 0.01 + 1j], [1, 1], [0, 2], 3)
    with pytest.raises(S4EdgeError, match=r"channel 2 has an unstable mode, \|a\| = 1.01"):
        systems_of(modes)


def test_growing_modes_run_as_a_convolution_of_their_length_only() -> None:
    length = 300
    modes = Modes.make([0.1 + 0.5j, -0.1 + 2j], [1e-12 * (1 + 2j), 1 - 1j], [0, 1], 2)
    systems = precise(modes, length=length)
    with torch.inference_mode():
        kernel = systems.kernel(length).numpy()
    expected = modes.kernel(length)
    np.testing.assert_allclose(kernel, expected, atol=1e-10 * np.abs(expected).max())
    with pytest.raises(S4EdgeError, match="no stable recurrence"):
        systems.coefficients()


def test_gradients_reach_every_parameter() -> None:
    systems = precise(random_modes(np.random.default_rng(5), 6))
    systems(torch.randn(1, 50, 6, dtype=torch.float64)).square().sum().backward()
    for name, parameter in systems.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all()
        assert parameter.numel() == 0 or parameter.grad.abs().max() > 0
