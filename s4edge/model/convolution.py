"""Causal convolution of long sequences by Fourier transform, with its own backward pass.

Of what torch would keep for the backward pass only the input's spectrum is needed, and the
gradients are formed in place.
"""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor


def causal_convolution(v: Tensor, kernel: Tensor, spectrum: Tensor | None = None) -> Tensor:
    """``y_t = sum_k K[k] v_{t-k}``; differentiable.

    Args:
        v: (batch, H, length), float32 or float64: the precision of the transforms.
        kernel: (H, length or fewer) of the same type.
        spectrum: (H, length + 1) of a kernel that does not change, from `kernel_spectrum`.

    Returns:
        (batch, H, length), with gaps between the rows.
    """
    y: Tensor = _CausalConvolution.apply(v, kernel, spectrum)
    return y


def kernel_spectrum(kernel: Tensor, length: int) -> Tensor:
    """(H, length + 1) for sequences of ``length`` samples: padded, so that nothing wraps around."""
    return torch.fft.rfft(kernel, n=2 * length)


# Numbers of a product that is cheaper at once than in parts.
_SMALL = 1 << 18


class _Workspace(threading.local):
    """The padded copy that a transform reads, kept for the next one of that shape."""

    padded: Tensor | None = None


_workspace = _Workspace()


def _transform(v: Tensor) -> Tensor:
    """(..., length + 1) spectrum of ``v`` (..., length) padded by as many zeros."""
    length = v.shape[-1]
    shape = (*v.shape[:-1], 2 * length)
    padded = _workspace.padded
    if padded is None or (padded.shape, padded.dtype, padded.device) != (shape, v.dtype, v.device):
        with torch.inference_mode(False):  # one made there could not be written to outside
            padded = _workspace.padded = torch.zeros(shape, dtype=v.dtype, device=v.device)
    padded[..., :length] = v
    return torch.fft.rfft(padded)


def _summed_product(first: Tensor, second: Tensor) -> Tensor:
    """Over the batch."""
    if first.numel() < _SMALL:
        return (first * second).sum(0)
    # One by one: no third array of that size.
    total = first[0] * second[0]
    for before, after in zip(first[1:], second[1:], strict=True):
        total.addcmul_(before, after)
    return total


class _CausalConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, kernel: Tensor, spectrum: Tensor | None) -> Tensor:
        length = v.shape[-1]
        if spectrum is None:
            spectrum = kernel_spectrum(kernel, length)
        signal = _transform(v)
        product = signal * spectrum
        kept = signal.conj_physical_() if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(spectrum, kept)
        ctx.kernel_length = kernel.shape[-1]
        return torch.fft.irfft(product, n=2 * length)[..., :length]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        spectrum, signal = ctx.saved_tensors
        (gradient,) = gradients
        length = gradient.shape[-1]
        found = _transform(gradient)
        of_kernel = None
        if signal is not None:
            total = _summed_product(signal, found)
            of_kernel = torch.fft.irfft(total, n=2 * length)[:, : ctx.kernel_length]
        of_v = None
        if ctx.needs_input_grad[0]:
            found.mul_(spectrum.conj())
            of_v = torch.fft.irfft(found, n=2 * length)[..., :length]
        return of_v, of_kernel, None
