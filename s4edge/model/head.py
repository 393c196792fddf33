"""A head that compares what a model answers to two sequences; see `HeadConfig`."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from s4edge.model.activations import activate
from s4edge.model.configuration import HeadConfig


class Head(nn.Module):
    """A few dense layers on two answers side by side.

    Args:
        features: of an answer.
        config: of the head.
    """

    # A ModuleList, which torch's types do not make generic.
    layers: nn.ModuleList

    def __init__(self, features: int, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        self.features = features
        widths = [(4 if config.contrasts else 2) * features, *config.widths, config.d_output]
        self.layers = nn.ModuleList(
            nn.Linear(columns, rows) for columns, rows in itertools.pairwise(widths)
        )

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """Answers (batch, features) to the first and the second of each pair: (batch, d_output)."""
        parts = [u, v, u - v, u * v] if self.config.contrasts else [u, v]
        y = torch.cat(parts, dim=-1)
        *hidden, last = self.layers
        for layer in hidden:
            y = activate(self.config.activation, layer(y))
        out: Tensor = last(y)
        return out
