"""What a reader of one upstream layer gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.tensors import Tensors
from s4edge.model.configuration import Activation, FinalActivation
from s4edge.model.modes import Modes

Float = NDArray[np.float64]

# Upstream's other names for activations.
ACTIVATION_NAMES: dict[str | None, Activation] = {
    None: "identity",
    "id": "identity",
    "identity": "identity",
    "linear": "identity",
    "gelu": "gelu",
    "relu": "relu",
    "elu": "elu",
    "swish": "silu",
    "silu": "silu",
    "sigmoid": "sigmoid",
    "softplus": "softplus",
    "tanh": "tanh",
}


@dataclass(frozen=True)
class Layer:
    """One upstream layer in our terms: systems, activation, mixing, final activation.

    Attributes:
        kind: name of the upstream layer.
        modes: the systems in discrete time.
        D: (channels,) feed-through.
        state_size: upstream's ``d_state``.
        states_per_size: real states per unit of it.
        activation: after the systems.
        mixing_weight: (channels or twice as many, channels), or None without a linear layer.
        mixing_bias: as many as the weight has rows.
        final_activation: after the mixing.
        length: the one sequence length the kernels are exact for, or None.
    """

    kind: str
    modes: Modes
    D: Float
    state_size: int
    states_per_size: int
    activation: Activation
    mixing_weight: Float
    mixing_bias: Float
    final_activation: FinalActivation
    length: int | None = None


@dataclass(frozen=True)
class LayerReader:
    """A layout of one layer: how it is recognized and read.

    Attributes:
        name: in words.
        classes: upstream's dotted class names in sidecars.
        claims: whether the tensors below a layer's prefix are of this layout.
        read: takes them and the facts; raises S4EdgeError.
    """

    name: str
    classes: tuple[str, ...]
    claims: Callable[[Tensors], bool]
    read: Callable[[Tensors, Facts, int], Layer]
