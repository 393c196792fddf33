"""Pooling over time by the names that configurations use, over sequences and sample by sample.

A pooling's state is (batch, `state_width`) float64: the pooled features, then, where it counts,
the number of samples seen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from s4edge.errors import S4EdgeError
from s4edge.model.configuration import Pooling


def pool(
    kind: Pooling, features: Tensor, lengths: Tensor | None = None, answers: int | None = 0
) -> Tensor:
    """(batch, length, features) to (batch, features), or as it was for "none".

    Args:
        kind: of pooling.
        features: sequences.
        lengths: (batch,) samples that count, all if None.
        answers: as in `ModelConfig`: other than 0 they are (batch, answers, features).

    Raises:
        S4EdgeError: there are fewer samples than answers.
    """
    if kind == "none":
        return features
    if answers is None:
        # Of the samples so far the first and the last are no pooling.
        return features if kind in ("first", "last") else pool_running(kind, features)
    if answers:
        return _several(kind, features, lengths, answers)
    if kind == "first":
        return features[:, 0]
    length = features.shape[1]
    if lengths is None and kind in ("mean", "sum"):
        # Over the last axis, so that the gradient is spread in the order of `time_last`.
        total = features.mT.sum(dim=2, dtype=torch.float64)
        return (total / length if kind == "mean" else total).to(features.dtype)
    if lengths is None:
        lengths = torch.full((len(features),), length, device=features.device)
    if kind == "last":
        return features[torch.arange(len(features), device=features.device), lengths - 1]
    counted = torch.arange(length, device=features.device) < lengths[:, None]
    total = torch.where(counted[..., None], features.double(), 0.0).sum(dim=1)
    return (total / lengths[:, None] if kind == "mean" else total).to(features.dtype)


def _several(kind: Pooling, features: Tensor, lengths: Tensor | None, answers: int) -> Tensor:
    """(batch, answers, features)."""
    batch, length = features.shape[:2]
    least = length if lengths is None else int(lengths.min())
    if lengths is None and kind in ("first", "last"):
        # As upstream slices, so many as there are.
        answers = min(answers, length)
    if least < answers:
        raise S4EdgeError(f"the model gives {answers} answers, the sequence has {least} samples")
    if kind == "first":
        return features[:, :answers]
    if kind != "last":
        features = pool_running(kind, features)
    if lengths is None:
        return features[:, length - answers :]
    at = lengths[:, None] - answers + torch.arange(answers, device=features.device)
    return features[torch.arange(batch, device=features.device)[:, None], at]


def pool_running(kind: Pooling, features: Tensor) -> Tensor:
    """(batch, length, features): at each sample, the pooling of the samples so far."""
    if kind == "first":
        return features[:, :1].expand_as(features)
    if kind in ("none", "last"):
        return features
    total = features.double().cumsum(dim=1)
    if kind == "mean":
        total = total / torch.arange(1, features.shape[1] + 1, device=features.device)[:, None]
    return total.to(features.dtype)


def state_widths(kind: Pooling, features: int) -> list[int]:
    """Floats of state per stream: of the pooled features, then of the count, where there are."""
    if kind in ("none", "last"):
        return []
    return [features] if kind == "sum" else [features, 1]


def state_width(kind: Pooling, features: int) -> int:
    """Floats of state per stream."""
    return sum(state_widths(kind, features))


def pool_step(kind: Pooling, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """One sample (batch, features) and the state, to the pooled features and the next state."""
    if kind in ("none", "last"):
        return x, state
    if kind == "sum":
        total = state + x
        return total.to(x.dtype), total
    pooled, seen = state[:, :-1], state[:, -1:] + 1
    if kind == "mean":
        # Not total / seen: a mean of a million samples keeps its digits in float32, too.
        pooled = pooled + (x - pooled) / seen
    else:
        pooled = torch.where(seen == 1, x.double(), pooled)
    return pooled.to(x.dtype), torch.cat([pooled, seen], dim=-1)
