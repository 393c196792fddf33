"""Kernels by split powers against sums mode by mode, and their gradients against autograd's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from s4edge.model.mode_sums import Groups, mode_sum
from s4edge.systems.modes import Modes


def some_modes(channels: int, modes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    shape = (channels, modes)
    log_pole = -np.exp(rng.uniform(-7, 0, shape)) + 1j * rng.uniform(-np.pi, np.pi, shape)
    weight = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    return torch.from_numpy(log_pole), torch.from_numpy(weight)


def naive(log_pole: Tensor, weight: Tensor, length: int) -> Tensor:
    powers = torch.exp(log_pole[..., None] * torch.arange(length, dtype=torch.float64))
    return (weight[..., None] * powers).sum(1).real


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 1000])
def test_against_the_sum_mode_by_mode(length: int) -> None:
    log_pole, weight = some_modes(3, 5)
    expected = naive(log_pole, weight, length)
    torch.testing.assert_close(mode_sum(log_pole, weight, length), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("length", [1, 2, 7, 64, 1000])
def test_against_the_kernel_of_modes(length: int) -> None:
    log_pole, weight = some_modes(3, 5, seed=1)
    expected = Modes.from_rows(log_pole, weight).kernel(length)
    np.testing.assert_allclose(mode_sum(log_pole, weight, length), expected, rtol=0, atol=1e-11)


def test_a_long_kernel_of_slow_poles() -> None:
    log_pole, weight = some_modes(2, 3)
    log_pole = torch.complex(log_pole.real * 1e-4, log_pole.imag)
    length = 65_536
    found = mode_sum(log_pole, weight, length)
    last = naive(log_pole, weight * torch.exp(log_pole * (length - 50)), 50)
    torch.testing.assert_close(found[:, -50:], last, rtol=0, atol=1e-9)


@pytest.mark.parametrize("length", [1, 2, 10])
def test_gradients_against_differences(length: int) -> None:
    log_pole, weight = (each.requires_grad_() for each in some_modes(2, 3))
    assert torch.autograd.gradcheck(lambda z, w: mode_sum(z, w, length), (log_pole, weight))


def test_gradients_against_autograd_through_the_sum() -> None:
    found = [each.clone().requires_grad_() for each in some_modes(4, 6)]
    expected = [each.clone().requires_grad_() for each in some_modes(4, 6)]
    signs = torch.randn(4, 300, dtype=torch.float64)
    (mode_sum(*found, 300) * signs).sum().backward()
    (naive(*expected, 300) * signs).sum().backward()
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_channels_with_any_numbers_of_modes(counts: list[int], random: object) -> None:
    channel = np.repeat(np.arange(len(counts)), counts)
    random.shuffle(channel)  # type: ignore[attr-defined]
    log_pole, weight = (each[0] for each in some_modes(1, len(channel)))
    groups = Groups.of(torch.from_numpy(channel), len(counts))
    modes = Modes.make(log_pole, weight, channel, len(counts))
    np.testing.assert_allclose(groups.kernel(log_pole, weight, 20), modes.kernel(20), atol=1e-11)
    for these in groups.modes:
        assert these.numel() <= 1.5 * int((these < len(channel)).sum())
    held = torch.cat([each.flatten() for each in groups.modes]) if groups.modes else torch.zeros(0)
    assert sorted(held[held < len(channel)].tolist()) == list(range(len(channel)))


def test_channels_cost_what_they_hold() -> None:
    counts = np.array([100] + [2] * 63)
    groups = Groups.of(torch.from_numpy(np.repeat(np.arange(64), counts)), 64)
    assert sum(these.numel() for these in groups.modes) == counts.sum()


@pytest.mark.parametrize("counts", [[3, 0, 1, 3, 7], [0, 2], [0, 0]])
def test_gradients_of_ragged_channels(counts: list[int]) -> None:
    channel = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    log_pole, weight = (each[0].requires_grad_() for each in some_modes(1, len(channel)))
    groups = Groups.of(channel, len(counts))
    kernel = groups.kernel(log_pole, weight, 6)
    assert kernel.shape == (len(counts), 6)
    assert not kernel[torch.tensor(counts) == 0].any()
    if len(channel):
        assert torch.autograd.gradcheck(lambda z, w: groups.kernel(z, w, 6), (log_pole, weight))
