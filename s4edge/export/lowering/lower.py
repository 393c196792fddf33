"""From a model to its stages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from s4edge.arrays import Float
from s4edge.errors import S4EdgeError
from s4edge.export.lowering.program import (
    Activation,
    Affine,
    Constant,
    Convolution,
    Downsample,
    Embedding,
    Gather,
    Glu,
    Hold,
    LayerNorm,
    Linear,
    NormOverTime,
    Operation,
    Pool,
    PoolSequence,
    Product,
    Program,
    Recurrence,
    Role,
    Stage,
    Standardize,
    WeightedSum,
)
from s4edge.model.activations import output_width
from s4edge.model.block import Block, Highway
from s4edge.model.configuration import Downsampling, Norm
from s4edge.model.dense.base import Dense
from s4edge.model.norms import OVER_TIME, OverTime
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.stages import Stages, numbers
from s4edge.systems.modes import Modes


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
    pooling = Pool(config.running_pooling) if pooled else None
    last = [] if config.stride == 1 else [("hold", _hold(model))]
    return _program(model, pooling, last, over_sequences=False)


def lower_sequences(model: SequenceModel) -> Program:
    """The same of whole sequences, also for models that cannot stream."""
    config = model.config
    kind, answers = config.pooling, config.answers
    last: list[tuple[str, Operation]] = []
    if config.held and config.stride != 1 and (config.answers_each_sample or answers):
        last.append(("hold", _hold(model)))
        if not config.answers_each_sample:
            chosen = PoolSequence("first" if kind == "first" else "last", answers)
            last.append(("answers", chosen))
        kind, answers = config.running_pooling, None
    none = kind == "none" or (answers is None and kind in ("first", "last"))
    pooling = None if none else PoolSequence(kind, answers)
    return _program(model, pooling, last, over_sequences=True)


def _hold(model: SequenceModel) -> Hold:
    return Hold(model.config.stride, model.config.first_answer)


def _program(
    model: SequenceModel,
    pooling: Operation | None,
    last: Sequence[tuple[str, Operation]],
    over_sequences: bool,
) -> Program:
    """Stages of a model, ``last`` those behind the decoder by their names."""
    config = model.config
    tokens = config.d_input if config.encoder == "embedding" else None
    line = _Line(1 if tokens else config.d_input, over_sequences)
    value = "x"
    if config.encoder == "embedding":
        table = line.constant("encoder.weight", "embedding", model.encoder.weight)
        value = line.add("encoder", Embedding(table), value, width=config.d_model)
    if config.input_stride != 1:
        value = line.downsample("input", config.input_joining, config.input_stride, value)
    if config.encoder == "linear":
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
    for name, operation in last:
        value = line.add(name, operation, value)
    return Program(line.d_input, tokens, tuple(line.stages), value, line.width(value))


def _block(line: _Line, block: Block, x: str) -> str:
    """The value that leaves a block which ``x`` enters."""
    config = block.config
    u = x
    if config.norm_placement == "pre":
        u = line.norm("norm", config.norm, block.norm, x)
    y = block.systems.lower(line, u, backward=False)
    if block.backward_systems is not None:
        back = block.backward_systems.lower(line, u, backward=True)
        y = line.add("directions", WeightedSum((1.0, 1.0)), y, back)
    if config.hyper is not None:
        y = line.add("hyper", Glu(config.hyper), y, width=line.width(y) // 2)
    y = line.activation("activation", config.activation, y)
    if block.gate is not None:
        gate = block.gate.config
        branch = line.of_kind("gate.input", block.gate.input, u)
        branch = line.activation("gate.activation", gate.activation, branch)
        y = line.of_kind("gate.output", block.gate.output, y)
        y = line.activation("gate.output_activation", gate.output_activation, y)
        y = line.add("gate", Product(), y, branch)
    y = line.activation("multiplied_activation", config.multiplied_activation, y)
    if config.mixing == "linear":
        y = line.of_kind("mixing", block.mixing, y)
    y = line.activation("final_activation", config.final_activation, y)
    if config.projection == "linear":
        y = line.of_kind("projection", block.projection, y)
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
        y = line.downsample("downsampling", config.downsampling, config.stride, y)
    if config.repeat != 1:
        repeated = np.repeat(np.arange(line.width(y)), config.repeat).tolist()
        y = line.add("repeat", Gather(tuple(repeated)), y, width=len(repeated))
    if config.widening is not None:
        y = line.of_kind("widening", block.widening, y)
    return y


def _highway(line: _Line, highway: Highway, of_x: float, x: str, y: str) -> str:
    """``w (1 - g) x + g y`` as ``w x + g (y - w x)``, with ``y`` through its linear layer."""
    y = line.of_kind("highway.output", highway.output, y)
    gate = line.of_kind("highway.input", highway.input, x)
    gate = line.add("highway.sum", WeightedSum((1.0, 1.0)), gate, y)
    gate = line.add("highway.gate", Activation("sigmoid"), gate)
    difference = line.add("highway.difference", WeightedSum((-of_x, 1.0)), x, y)
    gated = line.add("highway.gated", Product(), gate, difference)
    return line.add("residual", WeightedSum((of_x, 1.0)), x, gated)


class _Line(Stages):
    """Stages as they come; systems add theirs by the methods that `Stages` has.

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

    def constant(self, name: str, role: Role, value: Float | Tensor | nn.Module) -> Constant:
        """A tensor of the part, or numbers."""
        assert not isinstance(value, nn.Module)  # which torch's types say that a parameter may be
        if isinstance(value, Tensor):
            value = numbers(value)
        return Constant(f"{self.part}.{name}" if self.part else name, role, value)

    def downsample(self, name: str, kind: Downsampling, stride: int, x: str) -> str:
        """Fewer samples from here on."""
        width = self.width(x) * (stride if kind == "stack" else 1)
        return self.add(name, Downsample(kind, stride), x, width=width)

    def linear(self, name: str, module: nn.Module, x: str) -> str:
        """A plain dense layer of the model."""
        weight, bias = (module.get_parameter(each) for each in ("weight", "bias"))
        return self.dense(name, x, numbers(weight), numbers(bias))

    def of_kind(self, name: str, module: nn.Module, x: str) -> str:
        """A dense layer of a block, as its kind says it."""
        assert isinstance(module, Dense)
        return module.lower(self, name, x)

    def gathered(self, name: str, x: str, indices: tuple[int, ...]) -> str:
        return self.add(name, Gather(indices), x, width=len(indices))

    def dense(self, name: str, x: str, weight: Float, bias: Float | None = None) -> str:
        matrix = self.constant(f"{name}.weight", "matrix", weight)
        added = np.zeros(len(weight)) if bias is None else bias
        layer = Linear(matrix, self.constant(f"{name}.bias", "bias", added))
        return self.add(name, layer, x, width=len(weight))

    def weighted_sum(self, name: str, x: str, y: str, weights: tuple[float, float]) -> str:
        return self.add(name, WeightedSum(weights), x, y)

    def recurrence(self, name: str, u: str, modes: Modes, D: Float, backward: bool = False) -> str:
        feedthrough = self.constant(f"{name}.D", "feedthrough", D)
        return self.add(name, Recurrence(modes, feedthrough, backward), u)

    def convolution(
        self, name: str, u: str, kernel: Float, D: Float | None = None, backward: bool = False
    ) -> str:
        response = self.constant(f"{name}.kernel", "kernel", kernel)
        at_once = None if D is None else self.constant(f"{name}.D", "feedthrough", D)
        return self.add(name, Convolution(response, at_once, backward), u)

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
