"""No systems at all: what enters the layer is what its activation and its dense layers see.

So a block of this kind is a feed-forward layer, whatever stands around.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from s4edge.errors import S4EdgeError
from s4edge.model.kinds import Kind
from s4edge.model.stages import Stages
from s4edge.model.systems.base import Systems, check_inputs, check_numbers
from s4edge.systems.modes import Modes


@dataclass(frozen=True)
class FeedForwardConfig:
    """What a feed-forward layer reads.

    Attributes:
        kind: the upstream layer it came from, for people to read.
        channels: features that it passes on.
        inputs: the feature that each channel reads, (channels,); empty where channel i reads
            feature i.
    """

    TAG: ClassVar[str] = "feedforward"

    kind: str
    channels: int
    inputs: tuple[int, ...] = ()

    state_size: ClassVar[int] = 0
    real_states: ClassVar[int] = 0
    exact_samples: ClassVar[None] = None
    cannot_stream: ClassVar[None] = None

    @property
    def facts(self) -> dict[str, Any]:
        """Those of systems, of which there are none."""
        return {"real_poles": 0, "growing_modes": 0}

    def check(self, where: str, features: int) -> None:
        """See `s4edge.model.systems.base.SystemsConfig`."""
        check_numbers(
            (f"{where}: channels", self.channels, 1),
            (f"{where}: an input", min(self.inputs, default=0), 0),
        )
        check_inputs(where, self.inputs, features)
        if self.channels != (len(self.inputs) or features):
            raise S4EdgeError(
                f"{where}: {self.channels} channels do not fit {features} features and "
                f"{len(self.inputs)} inputs; the file is damaged"
            )


class FeedForward(Systems):
    """Passes on what it reads; there is nothing to carry from sample to sample.

    Args:
        config: what it reads.
    """

    config: FeedForwardConfig

    def __init__(self, config: FeedForwardConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, u: Tensor) -> Tensor:
        """What is read of ``u``, (..., features)."""
        return u[..., list(self.config.inputs)] if self.config.inputs else u

    def response(self, length: int) -> Tensor:
        """(channels, 1) ones."""
        return torch.ones(self.config.channels, 1, dtype=self.transform)

    @property
    def state_width(self) -> int:
        """None."""
        return 0

    def coefficients(self) -> None:
        """None."""

    def step(self, u: Tensor, state: Tensor, coefficients: Any = None) -> tuple[Tensor, Tensor]:
        """As of sequences; the state is empty."""
        return self(u), state

    def lower(self, stages: Stages, u: str, backward: bool) -> str:
        """No stage of its own; backward the next sample."""
        direction, config = "backward_" if backward else "", self.config
        if config.inputs:
            u = stages.gathered(f"{direction}inputs", u, config.inputs)
        if not backward:
            return u
        nothing = Modes.make([], [], [], config.channels)
        return stages.recurrence("backward_systems", u, nothing, np.ones(config.channels), True)

    @property
    def log_radius(self) -> float:
        """Forgets at once."""
        return -math.inf


KIND = Kind(FeedForwardConfig, lambda config, length: FeedForward(config))
