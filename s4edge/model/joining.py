"""Samples that are joined to fewer, and answers held until the next one: both ways of running.

A window of ``stride`` samples becomes one: their mean, the first of them ("sample"), or all,
feature by feature side by side ("stack"). The state of joining is (batch, `sum(state_widths)`)
float64: what is gathered of the window so far, then the number of its samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from s4edge.model.configuration import Downsampling


def join(kind: Downsampling, stride: int, x: Tensor) -> Tensor:
    """(batch, length, features), whole windows of it, to (batch, fewer, features or more)."""
    if stride == 1:
        return x
    if kind == "sample":
        return x[:, ::stride]
    x = x[:, : x.shape[1] // stride * stride]
    if kind == "mean" and x.stride(1) == 1:
        # Memory stays ordered with time last, where it is.
        return x.mT.unflatten(2, (-1, stride)).mean(dim=3).mT
    windows = x.unflatten(1, (-1, stride))
    return windows.transpose(2, 3).flatten(2) if kind == "stack" else windows.mean(dim=2)


def state_widths(kind: Downsampling, stride: int, features: int) -> list[int]:
    """Floats of state per stream: of what is gathered, and of the count; none without a stride."""
    if stride == 1:
        return []
    gathered = {"mean": features, "sample": 0, "stack": stride * features}[kind]
    return [gathered, 1]


def join_step(
    kind: Downsampling, stride: int, x: Tensor, state: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One sample (batch, features) and the state.

    Returns:
        What the window becomes, (batch, features or more), where it is ready; (batch,) whether it
        is; and the next state.
    """
    gathered, count = state[:, :-1], state[:, -1:]
    next_count = torch.where(count == stride - 1, 0.0, count + 1)
    if kind == "sample":
        return x, count[:, 0] == 0, next_count
    ready = next_count == 0
    if kind == "stack":
        here = torch.arange(stride, device=x.device) == count
        rows = torch.where(
            here[:, None], x.double()[..., None], gathered.unflatten(1, (-1, stride))
        )
        gathered = rows.flatten(1)
        y = gathered
    else:
        gathered = gathered + x.double() / stride
        y = gathered
    state = torch.cat([torch.where(ready, 0.0, gathered), next_count], dim=1)
    return y.to(x.dtype), ready[:, 0], state


def hold(y: Tensor, samples: int, period: int, first: int) -> Tensor:
    """Answers to windows of ``period`` samples as answers to samples, 0 before the first one.

    Args:
        y: (batch, answers, features).
        samples: of the input.
        period: from one answer to the next.
        first: samples before the one that has the first answer.
    """
    if period == 1:
        return y
    answered = (torch.arange(samples, device=y.device) + (period - first)) // period
    return torch.cat([torch.zeros_like(y[:, :1]), y], dim=1)[:, answered]
