"""Causal convolution of long sequences by Fourier transform, with its own backward pass.

Of what torch would keep for the backward pass only the input's spectrum is needed, and the
gradients are formed in place.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
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
        (batch, H, length), maybe with gaps between the rows.
    """
    y: Tensor = _CausalConvolution.apply(v, kernel, spectrum)
    return y


def kernel_spectrum(kernel: Tensor, length: int) -> Tensor:
    """(H, length + 1) for sequences of ``length`` samples: padded, so that nothing wraps around."""
    return torch.fft.rfft(kernel, n=2 * length)


class _Workspace(threading.local):
    """The padded copy that a transform reads, kept for the next one of that shape."""

    padded: Tensor | None = None
    kind: Any = None


_workspace = _Workspace()


# Numbers of a product that is cheaper at once than in parts.
_SMALL = 1 << 18
# Samples of all channels whose transforms the processor's own memory holds.
_AT_ONCE = 1 << 17


def _groups(v: Tensor) -> tuple[Tensor, ...]:
    """Sequences that are transformed together, group by group; all of them where they are few."""
    size = max(1, _AT_ONCE // max(1, v.shape[1] * v.shape[2]))
    return (v,) if size >= len(v) or v.is_cuda else v.split(size)


def _transform(v: Tensor) -> Tensor:
    """(..., length + 1) spectrum of ``v`` (..., length) padded by as many zeros."""
    length = v.shape[-1]
    kind = (*v.shape[1:-1], 2 * length), v.dtype, v.device
    padded = _workspace.padded
    if padded is None or len(padded) < len(v) or _workspace.kind != kind:
        with torch.inference_mode(False):  # one made there could not be written to outside
            padded = v.new_zeros(len(v), *kind[0])
        _workspace.padded, _workspace.kind = padded, kind
    padded = padded[: len(v)]
    padded[..., :length] = v
    return torch.fft.rfft(padded)


def _gathered(parts: Iterator[Tensor], v: Tensor) -> Tensor:
    """Groups, each with gaps between its rows, as one array of the shape of ``v``."""
    first = next(parts)
    if len(first) == len(v):
        return first
    whole = torch.empty(v.shape, dtype=v.dtype, device=v.device)
    at = 0
    for part in itertools.chain([first], parts):  # each while it is at hand
        whole[at : at + len(part)] = part
        at += len(part)
    return whole


def _add_product(total: Tensor | None, first: Tensor, second: Tensor) -> Tensor:
    """Summed over sequences."""
    if len(first) > 1 and first.numel() < _SMALL:
        product = (first * second).sum(0)
        return product if total is None else total.add_(product)
    for one, other in zip(first, second, strict=True):  # no third array of that size
        total = one * other if total is None else total.addcmul_(one, other)
    assert total is not None
    return total


class _CausalConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, kernel: Tensor, spectrum: Tensor | None) -> Tensor:
        length, kept = v.shape[-1], []
        response = kernel_spectrum(kernel, length) if spectrum is None else spectrum

        def answers() -> Iterator[Tensor]:
            for some in _groups(v):
                signal = _transform(some)
                product = signal * response
                if ctx.needs_input_grad[1]:
                    kept.append(signal.conj_physical_())
                yield torch.fft.irfft(product, n=2 * length)[..., :length]

        y = _gathered(answers(), v)
        ctx.save_for_backward(response, *kept)
        ctx.kernel_length = kernel.shape[-1]
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        response, *kept = ctx.saved_tensors
        (gradient,) = gradients
        length, total = gradient.shape[-1], None
        response = response.conj().resolve_conj()

        def of_inputs() -> Iterator[Tensor]:
            nonlocal total
            for index, some in enumerate(_groups(gradient)):
                found = _transform(some)
                if kept:
                    total = _add_product(total, kept[index], found)
                if ctx.needs_input_grad[0]:
                    yield torch.fft.irfft(found.mul_(response), n=2 * length)[..., :length]

        of_v = None
        if ctx.needs_input_grad[0]:
            of_v = _gathered(of_inputs(), gradient)
        else:
            for _ in of_inputs():
                pass
        of_kernel = None
        if total is not None:
            of_kernel = torch.fft.irfft(total, n=2 * length)[:, : ctx.kernel_length]
        return of_v, of_kernel, None
