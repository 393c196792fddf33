"""From what readers give to a model: pieces in numpy, put into the one form."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from s4edge.arrays import Float
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.norms import NormReading
from s4edge.checkpoints.pools import PoolReading
from s4edge.checkpoints.residuals import ResidualReading
from s4edge.checkpoints.tensors import Linear, Tensors
from s4edge.checkpoints.upstream_layer import UpstreamLayer
from s4edge.errors import S4EdgeError
from s4edge.model.configuration import BlockConfig, GateConfig, ModelConfig, NormPlacement
from s4edge.model.sequence_model import Provenance, SequenceModel
from s4edge.model.systems.base import Systems
from s4edge.model.systems.diagonal import DiagonalSystems
from s4edge.model.systems.feedforward import FeedForward, FeedForwardConfig
from s4edge.systems.modes import Modes


@dataclass(frozen=True)
class Piece:
    """One block: a layer and what its backbone puts around it.

    Attributes:
        name: the layer's prefix in the checkpoint.
        layer: of it.
        norm: of the block.
        placement: of the norm.
        residual: how the block's input is added.
        projection: a linear layer after the layer, or None.
        pool: after the block.
        d_output: features that leave the layer; None: as many as enter.
    """

    name: str
    layer: UpstreamLayer
    norm: NormReading = field(default_factory=NormReading)
    placement: NormPlacement = "pre"
    residual: ResidualReading = field(default_factory=ResidualReading)
    projection: Linear | None = None
    pool: PoolReading = field(default_factory=PoolReading)
    d_output: int | None = None


def assemble(
    tensors: Tensors,
    config: ModelConfig,
    pieces: Sequence[Piece],
    norm: NormReading | None = None,
    length: int | None = None,
) -> SequenceModel:
    """Put pieces into a model; encoder and decoder are left to the caller.

    Args:
        tensors: for messages.
        config: its ``blocks``, ``length`` and final norm are filled in here.
        pieces: the blocks in order.
        norm: the norm after the last block.
        length: of the sequences, where it is known.

    Raises:
        S4EdgeError: a mode is unstable, or layers ask for different lengths.
    """
    norm = norm or NormReading()
    systems = [_systems(tensors, piece) for piece in pieces]
    config = dataclasses.replace(
        config,
        blocks=tuple(
            _block_config(piece, *each) for piece, each in zip(pieces, systems, strict=True)
        ),
        final_norm=norm.kind,
        norm_epsilon=norm.epsilon,
    )
    config = dataclasses.replace(config, length=_length(tensors, config, pieces, length))
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
        fill(block, piece.residual.parameters)
        if piece.pool.widening is not None:
            fill(block.widening, dataclasses.asdict(piece.pool.widening))
    return model


def _length(
    tensors: Tensors, config: ModelConfig, pieces: Sequence[Piece], said: int | None
) -> int | None:
    """The one length of sequences that the layers ask for, if any does.

    Raises:
        S4EdgeError: they ask for different ones.
    """
    asked = [piece.layer.length for piece in pieces]
    wanted = {length for length in asked if length is not None}
    if not wanted:
        return None
    length = max(wanted) if said is None else said
    entering = config.samples_entering(length)
    if any(each not in (None, here) for each, here in zip(asked, entering, strict=False)):
        raise S4EdgeError(f"{tensors.path}: its layers are normalized over lengths {wanted}")
    return length


def provenance(layout: str, tensors: Tensors, facts: Facts, pieces: Sequence[Piece]) -> Provenance:
    """What a reader found, in the order that it was asked for."""
    return Provenance(
        source=tensors.path.name,
        format=layout,
        inferred=facts.inferred,
        assumed=facts.assumed,
        given=facts.given,
        notes=[f"{piece.name}: {note}" for piece in pieces for note in _notes(piece)],
    )


def _notes(piece: Piece) -> list[str]:
    of_residual = piece.residual.note
    return [*piece.layer.notes, *([] if of_residual is None else [of_residual])]


def fill_linear(module: nn.Module, weight: Float, bias: Float) -> None:
    """Copy a linear layer's numbers into its module."""
    fill(module, {"weight": weight, "bias": bias})


def fill(module: nn.Module, parameters: Mapping[str, Float], where: str = "") -> None:
    """Copy numbers into a module's parameters by name.

    Raises:
        S4EdgeError: they are of another shape, which copying might repeat until it fits; ``where``
            says what they are of.
    """
    with torch.no_grad():
        for name, value in parameters.items():
            parameter = module.get_parameter(name)
            if parameter.shape != value.shape:
                raise S4EdgeError(
                    f"{where}{name} has shape {value.shape}, expected {tuple(parameter.shape)}"
                )
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))


def without_systems(features: int) -> UpstreamLayer:
    """A layer that gives what it takes: no modes, nothing behind."""
    return UpstreamLayer(
        kind="identity",
        modes=Modes.make([], [], [], features),
        D=np.ones(features),
        state_size=0,
        states_per_size=1,
        activation="identity",
        mixing_weight=None,
        mixing_bias=None,
        final_activation="identity",
    )


def feedforward(first: Linear, activation: str, features: int) -> UpstreamLayer:
    """A feed-forward layer's first half as a layer without modes; its second is a projection."""
    return dataclasses.replace(
        without_systems(features),
        kind="feedforward",
        mixing_weight=first.weight,
        mixing_bias=first.bias,
        final_activation=activation,
    )


def _systems(tensors: Tensors, piece: Piece) -> tuple[Systems, Systems | None]:
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
    if layer.is_feedforward:
        config = FeedForwardConfig(layer.kind, len(layer.D), inputs)
        return FeedForward(config), backward
    return build(layer.modes, layer.D), backward


def _block_config(piece: Piece, systems: Systems, backward: Systems | None) -> BlockConfig:
    layer = piece.layer
    return BlockConfig(
        name=piece.name,
        systems=systems.config,
        norm=piece.norm.kind,
        norm_placement=piece.placement,
        norm_epsilon=piece.norm.epsilon,
        residual=piece.residual.weights is not None,
        activation=layer.activation,
        mixing="none" if layer.mixing_weight is None else "linear",
        final_activation=layer.final_activation,
        backward=None if backward is None else backward.config,
        hyper=layer.hyper,
        gate=_gate_config(layer),
        multiplied_activation=layer.multiplied_activation,
        mixing_width=None if layer.mixing_bias is None else len(layer.mixing_bias),
        projection="none" if piece.projection is None else "linear",
        residual_weights=piece.residual.weights or (1.0, 1.0),
        residual_form=piece.residual.form,
        d_output=piece.d_output,
        stride=piece.pool.stride,
        downsampling=piece.pool.downsampling,
        repeat=piece.pool.repeat,
        widening=None if piece.pool.widening is None else len(piece.pool.widening.bias),
    )


def _gate_config(layer: UpstreamLayer) -> GateConfig | None:
    gate = layer.gate
    if gate is None:
        return None
    return GateConfig(len(gate.input_bias), gate.activation, gate.output_activation)
