"""The convolution and its own backward pass against a sum written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from s4edge.model.convolution import causal_convolution, kernel_spectrum


def naive(v: Tensor, kernel: Tensor) -> Tensor:
    length = v.shape[-1]
    rows = []
    for t in range(length):
        past = range(max(0, t - kernel.shape[-1] + 1), t + 1)
        rows.append(sum(kernel[:, t - j] * v[..., j] for j in past))
    return torch.stack(rows, dim=-1)


def signals(
    batch: int, channels: int, length: int, kernel: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(length + 1000 * seed)
    v = torch.randn(batch, channels, length, generator=generator, dtype=torch.float64)
    K = torch.randn(channels, kernel, generator=generator, dtype=torch.float64)
    return v.requires_grad_(), K.requires_grad_()


@pytest.mark.parametrize(("length", "kernel"), [(1, 1), (2, 2), (9, 9), (9, 4), (16, 16)])
def test_against_the_sum(length: int, kernel: int) -> None:
    v, K = signals(3, 2, length, kernel)
    torch.testing.assert_close(causal_convolution(v, K), naive(v, K), rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(causal_convolution, (v, K))


@pytest.mark.parametrize(("batch", "channels"), [(5, 30), (3, 70), (4, 131)])
def test_long_batches_are_transformed_in_groups(batch: int, channels: int) -> None:
    """Of four and one; one by one; one by one, each larger than a group should be."""
    v, K = signals(batch, channels, 1000, 1000)
    signs = torch.randn(batch, channels, 1000, dtype=torch.float64)
    y = causal_convolution(v, K)
    found = torch.autograd.grad((y * signs).sum(), (v, K))
    n = 2 * 1000
    product = torch.fft.rfft(v, n=n) * torch.fft.rfft(K, n=n)
    plain = torch.fft.irfft(product, n=n)[..., :1000]
    expected = torch.autograd.grad((plain * signs).sum(), (v, K))
    torch.testing.assert_close(y, plain, rtol=0, atol=1e-11)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    (alone,) = torch.autograd.grad((causal_convolution(v.detach(), K) * signs).sum(), K)
    assert torch.equal(alone, found[1])


def test_a_frozen_kernel() -> None:
    v, K = signals(2, 3, 12, 12)
    spectrum = kernel_spectrum(K.detach(), 12)
    found = causal_convolution(v, K.detach(), spectrum)
    torch.testing.assert_close(found, naive(v, K), rtol=0, atol=1e-12)
    (of_v,) = torch.autograd.grad(found.square().sum(), v)
    (expected,) = torch.autograd.grad(naive(v, K.detach()).square().sum(), v)
    torch.testing.assert_close(of_v, expected, rtol=0, atol=1e-11)


def test_calls_do_not_see_each_other() -> None:
    # One shape after another and the same one with other numbers, forward and backward.
    calls = [signals(2, 3, n, n, seed) for seed, n in enumerate((8, 5, 8, 8, 5, 5, 8))]
    outputs = [causal_convolution(v, K) for v, K in calls]
    for (v, K), y in zip(calls, outputs, strict=True):
        expected = naive(v, K)
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
        ours = torch.autograd.grad(y.square().sum(), (v, K))
        theirs = torch.autograd.grad(expected.square().sum(), (v, K))
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_the_answer_to_huge_numbers_is_not_heard_later() -> None:
    v, K = signals(2, 3, 9, 9)
    causal_convolution(1e30 * v, K)
    torch.testing.assert_close(causal_convolution(v, K), naive(v, K), rtol=0, atol=1e-12)


def test_nothing_is_heard_before_it_comes() -> None:
    v, K = (each.detach() for each in signals(1, 2, 16, 16))
    v[..., :10] = 0
    torch.testing.assert_close(
        causal_convolution(v, K)[..., :10], torch.zeros(1, 2, 10, dtype=v.dtype), rtol=0, atol=1e-13
    )


def test_after_a_call_in_inference_mode() -> None:
    v, K = signals(2, 3, 11, 11)
    with torch.inference_mode():
        causal_convolution(v, K)
    assert torch.autograd.gradcheck(causal_convolution, (v, K))
