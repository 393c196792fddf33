"""The stages that parts of a model say themselves in, of which every file of it is written."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor

from s4edge.arrays import Float
from s4edge.systems.modes import Modes


class Stages(Protocol):
    """What every backend computes.

    A value is known by its name and is one vector of features per sample. A method adds a stage of
    a ``name`` within the layer, which no two share, and gives its value's name. Constants are in
    double precision.

    Attributes:
        over_sequences: whether values are whole sequences, rather than one sample after the other.
    """

    over_sequences: bool

    def width(self, value: str) -> int:
        """Features of a value."""
        ...

    def gathered(self, name: str, x: str, indices: tuple[int, ...]) -> str:
        """``x[indices]``."""
        ...

    def dense(self, name: str, x: str, weight: Float, bias: Float | None = None) -> str:
        """``weight @ x + bias``: weight (out, in), bias (out,) or none."""
        ...

    def weighted_sum(self, name: str, x: str, y: str, weights: tuple[float, float]) -> str:
        """``weights[0] * x + weights[1] * y``."""
        ...

    def recurrence(self, name: str, u: str, modes: Modes, D: Float, backward: bool = False) -> str:
        """Feature by feature ``y_t = Re sum_n w_n z_n + D u_t`` with ``z_n = a_n z_n + u_t``.

        Args:
            name: of the stage.
            u: as many features as ``modes`` have channels.
            modes: all with ``|a| < 1``.
            D: (channels,).
            backward: of whole sequences, from their ends: with ``u_{t+1}`` for ``u_t``.
        """
        ...

    def convolution(
        self, name: str, u: str, kernel: Float, D: Float | None = None, backward: bool = False
    ) -> str:
        """Of whole sequences, feature by feature ``y_t = sum_k K[k] u_{t-k}``.

        Args:
            name: of the stage.
            u: as many features as kernels.
            kernel: ``K``, (channels, taps).
            D: None, or (channels,) what ``K[0]`` lacks.
            backward: ``y_t = sum_k K[k] u_{t+1+k}``.
        """
        ...


def numbers(tensor: Tensor) -> Float:
    """A tensor in double precision."""
    return np.asarray(tensor.detach().double().numpy())
