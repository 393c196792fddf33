"""From a model to its stages."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from s4edge.arrays import Float
from s4edge.errors import S4EdgeError
from s4edge.export.lowering.program import (
    Activation,
    Affine,
    Constant,
    Convolution,
    DiagonalSystems,
    Downsample,
    Embedding,
    Gather,
    Glu,
    LayerNorm,
    Linear,
    NormOverTime,
    Operation,
    Pool,
    PoolSequence,
    Product,
    Program,
    Role,
    Stage,
    Standardize,
    WeightedSum,
)
from s4edge.model.activations import output_width
from s4edge.model.block import Block, Highway
from s4edge.model.configuration import Norm
from s4edge.model.norms import OVER_TIME, OverTime
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems import DiagonalSystems as Systems


def lower(model: SequenceModel) -> Program:
    """What a model computes from sample to sample; a head that compares two answers is not in it.

    Layers without systems, and norms, activations and poolings that do nothing, make no stage.

    Raises:
        S4EdgeError: the model has no stable recurrence.
    """
    config = model.config
    if config.cannot_stream is not None:
        raise S4EdgeError(f"the model cannot stream: {config.cannot_stream}")
    pooled = config.running_pooling not in ("none", "last")
    return _program(model, Pool(config.running_pooling) if pooled else None, over_sequences=False)


def lower_sequences(model: SequenceModel) -> Program:
    """The same of whole sequences, also for models that cannot stream."""
    kind, answers = model.config.pooling, model.config.answers
    none = kind == "none" or (answers is None and kind in ("first", "last"))
    return _program(model, None if none else PoolSequence(kind, answers), over_sequences=True)


def _program(model: SequenceModel, pooling: Operation | None, over_sequences: bool) -> Program:
    config = model.config
    tokens = config.d_input if config.encoder == "embedding" else None
    line = _Line(1 if tokens else config.d_input, over_sequences)
    value = "x"
    if config.encoder == "embedding":
        table = line.constant("encoder.weight", "embedding", model.encoder.weight)
        value = line.add("encoder", Embedding(table), value, width=config.d_model)
    elif config.encoder == "linear":
        value = line.linear("encoder", model.encoder, value)
    for index, block in enumerate(model.blocks):
        line.part = f"blocks.{index}"
        value = _block(line, block, value)
    line.part = ""
    value = line.norm("norm", config.final_norm, model.norm, value)
    if pooling is not None:
        value = line.add("pooling", pooling, value)
    if config.decoder == "linear":
        value = line.linear("decoder", model.decoder, value)
    return Program(line.d_input, tokens, tuple(line.stages), value, line.width(value))


def _block(line: _Line, block: Block, x: str) -> str:
    """The value that leaves a block which ``x`` enters."""
    config = block.config
    u = x
    if config.norm_placement == "pre":
        u = line.norm("norm", config.norm, block.norm, x)
    y = _systems(line, block.systems, u)
    if block.backward_systems is not None:
        back = _systems(line, block.backward_systems, u, "backward_")
        y = line.add("directions", WeightedSum((1.0, 1.0)), y, back)
    if config.hyper is not None:
        y = line.add("hyper", Glu(config.hyper), y, width=line.width(y) // 2)
    y = line.activation("activation", config.activation, y)
    if block.gate is not None:
        gate = block.gate.config
        branch = line.linear("gate.input", block.gate.input, u)
        branch = line.activation("gate.activation", gate.activation, branch)
        y = line.linear("gate.output", block.gate.output, y)
        y = line.activation("gate.output_activation", gate.output_activation, y)
        y = line.add("gate", Product(), y, branch)
    y = line.activation("multiplied_activation", config.multiplied_activation, y)
    if config.mixing == "linear":
        y = line.linear("mixing", block.mixing, y)
    y = line.activation("final_activation", config.final_activation, y)
    if config.projection == "linear":
        y = line.linear("projection", block.projection, y)
    if block.highway is not None:
        y = _highway(line, block.highway, config.residual_weights[0], x, y)
    elif config.residual:
        if config.residual_form == "scaled":
            scale = line.constant("residual_scale", "residual weight", block.residual_scale)
            y = line.add("residual_scale", Affine(scale, None), y)
        y = line.add("residual", WeightedSum(config.residual_weights), x, y)
    if config.norm_placement == "post":
        y = line.norm("norm", config.norm, block.norm, y)
    if config.stride != 1:
        width = line.width(y) * (config.stride if config.downsampling == "stack" else 1)
        down = Downsample(config.downsampling, config.stride)
        y = line.add("downsampling", down, y, width=width)
    if config.repeat != 1:
        repeated = np.repeat(np.arange(line.width(y)), config.repeat).tolist()
        y = line.add("repeat", Gather(tuple(repeated)), y, width=len(repeated))
    if config.widening is not None:
        y = line.linear("widening", block.widening, y)
    return y


def _highway(line: _Line, highway: Highway, of_x: float, x: str, y: str) -> str:
    """``w (1 - g) x + g y`` as ``w x + g (y - w x)``, with ``y`` through its linear layer."""
    y = line.linear("highway.output", highway.output, y)
    gate = line.linear("highway.input", highway.input, x)
    gate = line.add("highway.sum", WeightedSum((1.0, 1.0)), gate, y)
    gate = line.add("highway.gate", Activation("sigmoid"), gate)
    difference = line.add("highway.difference", WeightedSum((-of_x, 1.0)), x, y)
    gated = line.add("highway.gated", Product(), gate, difference)
    return line.add("residual", WeightedSum((of_x, 1.0)), x, gated)


def _systems(line: _Line, systems: Systems, u: str, direction: str = "") -> str:
    """What systems give that read ``u``; backward if the direction says so."""
    config, modes = systems.config, systems.modes()
    if config.inputs:
        gather = Gather(config.inputs)
        u = line.add(f"{direction}inputs", gather, u, width=config.channels)
    name = f"{direction}systems"
    D = line.constant(f"{name}.D", "feedthrough", systems.D)
    if not len(modes.channel) and not direction and (D.value == 1).all():
        return u  # a feed-forward layer
    kernel = _kernel(systems, bool(direction)) if line.over_sequences else None
    if kernel is None:
        return line.add(name, DiagonalSystems(modes, D, bool(direction)), u)
    if direction:
        kernel[:, 0] += D.value
    response = Constant(f"{name}.kernel", "kernel", kernel)
    at_once = D if config.feedthrough and not direction else None
    return line.add(name, Convolution(response, at_once, bool(direction)), u)


def _kernel(systems: Systems, backward: bool) -> Float | None:
    """The kernels (channels, taps) of systems whose sequences are no recurrence, without ``D``."""
    config = systems.config
    if not config.real_states:
        return np.zeros((config.channels, 1)) if backward else None
    # Behind the one length that growing modes have they only grow, out of float32's range.
    ends = [config.kernel_length, systems.length if sum(config.growing) else None]
    cut = min((each for each in ends if each is not None), default=None)
    return None if cut is None else _numbers(systems.kernel(cut))


def _numbers(tensor: Tensor | nn.Module) -> Float:
    assert isinstance(tensor, Tensor)
    return np.asarray(tensor.detach().double().numpy())


class _Line:
    """Stages as they come.

    Args:
        d_input: features of ``x``.
        over_sequences: whether values are whole sequences.
    """

    def __init__(self, d_input: int, over_sequences: bool) -> None:
        self.d_input = d_input
        self.over_sequences = over_sequences
        self.part = ""
        self.stages: list[Stage] = []

    def width(self, value: str) -> int:
        """Features of a value."""
        return next((s.width for s in self.stages if s.name == value), self.d_input)

    def add(self, name: str, operation: Operation, *inputs: str, width: int | None = None) -> str:
        """One stage, as wide as its first input where nothing else is said; its name."""
        full = f"{self.part}.{name}" if self.part else name
        width = self.width(inputs[0]) if width is None else width
        self.stages.append(Stage(full, self.part or name, operation, inputs, width))
        return full

    def constant(self, name: str, role: Role, tensor: Tensor | nn.Module) -> Constant:
        """A tensor of the part."""
        return Constant(f"{self.part}.{name}" if self.part else name, role, _numbers(tensor))

    def linear(self, name: str, module: nn.Module, x: str) -> str:
        """A dense layer."""
        weight = self.constant(f"{name}.weight", "matrix", module.weight)
        bias = self.constant(f"{name}.bias", "bias", module.bias)
        return self.add(name, Linear(weight, bias), x, width=len(bias.value))

    def norm(self, name: str, kind: Norm, module: nn.Module, x: str) -> str:
        """A norm; see `s4edge.model.norms`."""
        if kind == "none":
            return x
        first, second = ("scale", "shift") if kind == "standardize" else ("weight", "bias")
        scale = self.constant(f"{name}.{first}", "scale", module.get_parameter(first))
        shift = self.constant(f"{name}.{second}", "shift", module.get_parameter(second))
        if kind == "layer":
            assert isinstance(module, nn.LayerNorm)
            return self.add(name, LayerNorm(scale, shift, float(module.eps)), x)
        if kind in OVER_TIME:
            assert isinstance(module, OverTime)
            return self.add(name, NormOverTime(scale, shift, module.epsilon, module.axes), x)
        return self.add(name, (Affine if kind == "affine" else Standardize)(scale, shift), x)

    def activation(self, name: str, kind: str, x: str) -> str:
        """An activation by its name in configurations."""
        if kind == "identity":
            return x
        if kind.startswith("glu"):
            function = kind.removeprefix("glu").lstrip("-") or "sigmoid"
            return self.add(name, Glu(function), x, width=output_width(kind, self.width(x)))
        return self.add(name, Activation(kind), x)
