"""What a reader of one upstream layer gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from s4edge.arrays import Float, Int
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.layout import Layout
from s4edge.checkpoints.tensors import StateDict, Tensors
from s4edge.model.configuration import Activation, FinalActivation
from s4edge.systems.modes import Modes

# Upstream's other names for activations.
ACTIVATION_NAMES: dict[str | None, Activation] = {
    None: "identity",
    "id": "identity",
    "none": "identity",
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
    "sqrelu": "sqrelu",
    "relu2": "sqrelu",
    "laplace": "laplace",
}

# Where the modules of layers before version 4 have their activations.
OLDER_ACTIVATIONS = {
    "activation": "activation",
    "hyper_activation": "hyper_act",
    "output_linear.-1": "postact",
}


@dataclass(frozen=True)
class GateWeights:
    """A multiplicative branch around the systems: ``out_act(output(y)) * act(input(x))``.

    Attributes:
        input_weight: (width, features), on the layer's input.
        input_bias: (width,).
        activation: of the branch.
        output_weight: (width, systems), on the activated systems' outputs.
        output_bias: (width,).
        output_activation: of these; before a "glu" the output has 2 width rows.
    """

    input_weight: Float
    input_bias: Float
    activation: Activation
    output_weight: Float
    output_bias: Float
    output_activation: FinalActivation = "identity"


@dataclass(frozen=True)
class UpstreamLayer:
    """One upstream layer in our terms: systems, activation, mixing, final activation.

    With ``H`` features in and ``S`` systems: ``y = systems(x)``; with ``hyper``, the first half
    of the systems is multiplied by the activated second half; ``activation``; the gate;
    ``multiplied_activation``; ``mixing``; ``final_activation``.

    Attributes:
        kind: name of the upstream layer.
        modes: the S systems in discrete time.
        D: (S,) feed-through.
        state_size: upstream's ``d_state``.
        states_per_size: real states per unit of it.
        activation: after the systems; "glu" halves their number.
        mixing_weight: (rows, systems after activation and gate), or None without a linear layer.
        mixing_bias: (rows,), or None with it.
        final_activation: after the mixing.
        length: the one sequence length the kernels are exact for, or None.
        inputs: (S,) the feature that each system reads; None: system i reads feature i.
        backward: systems that run from the end, ``y_t += sum_j K[j] x_{t+1+j}``, or None.
        kernel_length: kernels are zero from there on, as upstream cuts them, or None.
        hyper: activation of the second half of the systems, or None.
        gate: or None.
        multiplied_activation: after the gate.
        notes: what a person should know about how it was read (conditioning, truncation).
    """

    kind: str
    modes: Modes
    D: Float
    state_size: int
    states_per_size: int
    activation: FinalActivation
    mixing_weight: Float | None
    mixing_bias: Float | None
    final_activation: FinalActivation
    length: int | None = None
    inputs: Int | None = None
    backward: Modes | None = None
    kernel_length: int | None = None
    hyper: Activation | None = None
    gate: GateWeights | None = None
    multiplied_activation: Activation = "identity"
    notes: tuple[str, ...] = ()

    @property
    def is_feedforward(self) -> bool:
        """Whether there are no systems: what enters is what the activation sees."""
        return (
            not len(self.modes.channel) and bool((self.D == 1).all()) and self.kernel_length is None
        )


@dataclass(frozen=True)
class LiveKernel:
    """A layer's kernel as a live module by itself, whatever layer of a person's own it is in.

    Attributes:
        marks: parameters that it has.
        prefix: of its parameters in a layer that readers know.
        feedthrough: that layer's ``D``.
        facts: of that layer where it does nothing but convolve.
        attributes: facts that the module carries.
    """

    marks: frozenset[str]
    prefix: str
    feedthrough: str
    facts: Mapping[str, Any]
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerReader:
    """A layout of one layer: how it is recognized and read.

    Attributes:
        name: in words.
        classes: upstream's dotted class names in sidecars.
        claims: whether the tensors below a layer's prefix are of this layout.
        read: takes them and the facts; raises S4EdgeError.
        channels_first: whether the layer alone takes (batch, features, length); None where its
            ``transposed`` says.
        layout: takes a layer's tensors by name and what reading found of it to where its systems
            lie, to be replaced; raises S4EdgeError where the layer cannot hold others. None where
            no layer of the kind can.
        attributes: of the live module, by path, the facts that its tensors do not hold.
        activations: of the live module, by path, the facts that its activation modules are; of
            several paths of a fact the last one that there is. ``-1`` is the last module of a
            sequence.
        kernels: live modules that give its kernels.
    """

    name: str
    classes: tuple[str, ...]
    claims: Callable[[Tensors], bool]
    read: Callable[[Tensors, Facts, int], UpstreamLayer]
    channels_first: bool | None = None
    layout: Callable[[StateDict, dict[str, Any]], Layout] | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    activations: Mapping[str, str] = field(default_factory=dict)
    kernels: tuple[LiveKernel, ...] = ()
