"""From what readers give to a model: pieces in numpy, put into the one form."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.layer import Layer
from s4edge.checkpoints.tensors import Linear, Tensors
from s4edge.errors import S4EdgeError
from s4edge.model.configuration import BlockConfig, GateConfig, ModelConfig, Norm, NormPlacement
from s4edge.model.sequence_model import Provenance, SequenceModel
from s4edge.model.systems import DiagonalSystems
from s4edge.systems.modes import Modes

Float = NDArray[np.float64]


@dataclass(frozen=True)
class NormReading:
    """A norm and its parameters, by the names that `s4edge.model.norms` gives them."""

    kind: Norm = "none"
    epsilon: float = 1e-5
    parameters: Mapping[str, Float] = field(default_factory=dict)


@dataclass(frozen=True)
class Piece:
    """One block: a layer and what its backbone puts around it.

    Attributes:
        name: the layer's prefix in the checkpoint.
        layer: of it.
        norm: of the block.
        placement: of the norm.
        residual: weights of the block's input and of the layer's output; None for no residual.
        projection: a linear layer after the layer, or None.
        stride: of average pooling after the block.
    """

    name: str
    layer: Layer
    norm: NormReading = NormReading()
    placement: NormPlacement = "pre"
    residual: tuple[float, float] | None = None
    projection: Linear | None = None
    stride: int = 1


def assemble(
    tensors: Tensors, config: ModelConfig, pieces: Sequence[Piece], norm: NormReading | None = None
) -> SequenceModel:
    """Put pieces into a model; encoder and decoder are left to the caller.

    Args:
        tensors: for messages.
        config: its ``blocks``, ``length`` and final norm are filled in here.
        pieces: the blocks in order.
        norm: the norm after the last block.

    Raises:
        S4EdgeError: a mode is unstable, or layers ask for different lengths.
    """
    norm = norm or NormReading()
    systems = [_systems(tensors, piece) for piece in pieces]
    lengths = {piece.layer.length for piece in pieces} - {None}
    if len(lengths) > 1:
        raise S4EdgeError(f"{tensors.path}: its layers are normalized over lengths {lengths}")
    config = dataclasses.replace(
        config,
        blocks=tuple(
            _block_config(piece, *each) for piece, each in zip(pieces, systems, strict=True)
        ),
        length=lengths.pop() if lengths else None,
        final_norm=norm.kind,
        norm_epsilon=norm.epsilon,
    )
    model = SequenceModel(config)
    fill(model.norm, norm.parameters)
    for block, piece, (forward, backward) in zip(model.blocks, pieces, systems, strict=True):
        block.systems, block.backward_systems = forward, backward
        fill(block.norm, piece.norm.parameters)
        layer = piece.layer
        if layer.gate is not None:
            assert block.gate is not None
            fill_linear(block.gate.input, layer.gate.input_weight, layer.gate.input_bias)
            fill_linear(block.gate.output, layer.gate.output_weight, layer.gate.output_bias)
        if layer.mixing_weight is not None and layer.mixing_bias is not None:
            fill_linear(block.mixing, layer.mixing_weight, layer.mixing_bias)
        if piece.projection is not None:
            fill(block.projection, dataclasses.asdict(piece.projection))
    return model


def provenance(layout: str, tensors: Tensors, facts: Facts, pieces: Sequence[Piece]) -> Provenance:
    """What a reader found, in the order that it was asked for."""
    return Provenance(
        source=tensors.path.name,
        format=layout,
        inferred=facts.inferred,
        assumed=facts.assumed,
        given=facts.given,
        notes=[f"{piece.name}: {note}" for piece in pieces for note in piece.layer.notes],
    )


def fill_linear(module: nn.Module, weight: Float, bias: Float) -> None:
    """Copy a linear layer's numbers into its module."""
    fill(module, {"weight": weight, "bias": bias})


def fill(module: nn.Module, parameters: Mapping[str, Float]) -> None:
    """Copy numbers into a module's parameters by name."""
    with torch.no_grad():
        for name, value in parameters.items():
            module.get_parameter(name).copy_(torch.from_numpy(np.ascontiguousarray(value)))


def feedforward(first: Linear, activation: str, features: int) -> Layer:
    """A feed-forward layer's first half as a layer without modes; its second is a projection."""
    nothing = Modes.make([], [], [], features)
    return Layer(
        kind="feedforward",
        modes=nothing,
        D=np.ones(features),
        state_size=0,
        states_per_size=1,
        activation="identity",
        mixing_weight=first.weight,
        mixing_bias=first.bias,
        final_activation=activation,
    )


def parallel(tensors: Tensors, first: Layer, second: Layer) -> Layer:
    """Two layers of one kind on the same input, their outputs side by side.

    Raises:
        S4EdgeError: they have gates, backward systems or no linear layer.
    """
    for layer in (first, second):
        if layer.gate or layer.hyper or layer.backward or layer.mixing_weight is None:
            raise S4EdgeError(
                f"{tensors.path}: a bidirectional backbone around gated or bidirectional layers, "
                "or layers without an output_linear, cannot be read"
            )
    assert first.mixing_weight is not None
    assert second.mixing_weight is not None
    assert first.mixing_bias is not None
    assert second.mixing_bias is not None
    glu = first.final_activation.startswith("glu")
    rows, columns = first.mixing_weight.shape
    parts = 2 if glu else 1
    weight = np.zeros((parts, 2, rows // parts, 2, columns))
    weight[:, 0, :, 0] = first.mixing_weight.reshape(parts, rows // parts, columns)
    weight[:, 1, :, 1] = second.mixing_weight.reshape(parts, rows // parts, columns)
    biases = [layer.reshape(parts, -1) for layer in (first.mixing_bias, second.mixing_bias)]
    count = first.modes.channels
    shifted = dataclasses.replace(
        second.modes, channel=second.modes.channel + count, channels=2 * count
    )
    inputs = [
        np.arange(count) if layer.inputs is None else layer.inputs for layer in (first, second)
    ]
    return dataclasses.replace(
        first,
        kind=f"{first.kind} x 2",
        modes=Modes.concatenate([dataclasses.replace(first.modes, channels=2 * count), shifted]),
        D=np.concatenate([first.D, second.D]),
        mixing_weight=weight.reshape(2 * rows, 2 * columns),
        mixing_bias=np.concatenate(biases, axis=1).reshape(-1),
        inputs=np.concatenate(inputs),
        notes=first.notes + second.notes,
    )


def _systems(tensors: Tensors, piece: Piece) -> tuple[DiagonalSystems, DiagonalSystems | None]:
    layer = piece.layer
    # Said only where it is not the obvious: channel i reads feature i.
    plain = layer.inputs is None or np.array_equal(layer.inputs, np.arange(len(layer.inputs)))
    inputs = () if plain or layer.inputs is None else tuple(layer.inputs.tolist())

    def build(modes: Modes, D: Float | None) -> DiagonalSystems:
        try:
            return DiagonalSystems.from_modes(
                modes,
                D,
                kind=layer.kind,
                state_size=layer.state_size,
                states_per_size=layer.states_per_size,
                length=layer.length,
                inputs=inputs,
                kernel_length=layer.kernel_length,
            )
        except S4EdgeError as error:
            raise S4EdgeError(f"{tensors.path}: {piece.name}: {error}") from error

    backward = None if layer.backward is None else build(layer.backward, None)
    return build(layer.modes, layer.D), backward


def _block_config(
    piece: Piece, systems: DiagonalSystems, backward: DiagonalSystems | None
) -> BlockConfig:
    layer = piece.layer
    return BlockConfig(
        name=piece.name,
        systems=systems.config,
        norm=piece.norm.kind,
        norm_placement=piece.placement,
        norm_epsilon=piece.norm.epsilon,
        residual=piece.residual is not None,
        activation=layer.activation,
        mixing="none" if layer.mixing_weight is None else "linear",
        final_activation=layer.final_activation,
        backward=None if backward is None else backward.config,
        hyper=layer.hyper,
        gate=_gate_config(layer),
        multiplied_activation=layer.multiplied_activation,
        mixing_width=None if layer.mixing_bias is None else len(layer.mixing_bias),
        projection="none" if piece.projection is None else "linear",
        residual_weights=piece.residual or (1.0, 1.0),
        stride=piece.stride,
    )


def _gate_config(layer: Layer) -> GateConfig | None:
    gate = layer.gate
    if gate is None:
        return None
    return GateConfig(len(gate.input_bias), gate.activation, gate.output_activation)
