"""What every graph has around the systems: encoder, norms, mixing, decoder.

All of it works over the last axis, so that it serves one sample and a sequence alike.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from s4edge.arrays import Float
from s4edge.export.onnx.builder import GraphBuilder, gate_of
from s4edge.model.activations import output_width
from s4edge.model.block import Block, Highway
from s4edge.model.configuration import Norm, SystemsConfig
from s4edge.model.norms import OVER_TIME
from s4edge.model.sequence_model import SequenceModel


def numbers(tensor: Tensor) -> Float:
    """A parameter in double precision."""
    return np.asarray(tensor.detach().double().numpy())


def parameters(module: nn.Module, *names: str) -> tuple[Float, ...]:
    """Parameters of a module by name, in double precision."""
    return tuple(numbers(module.get_parameter(name)) for name in names)


def linear(g: GraphBuilder, module: nn.Module, x: str, output: str | None = None) -> str:
    """A linear layer of the model."""
    weight, bias = parameters(module, "weight", "bias")
    return g.linear(x, weight, bias, output)


def encode(g: GraphBuilder, model: SequenceModel, x: str) -> str:
    """The encoder; tokens come as floats, (..., 1)."""
    if model.config.encoder == "linear":
        return linear(g, model.encoder, x)
    if model.config.encoder == "embedding":
        (table,) = parameters(model.encoder, "weight")
        token = g.add("Squeeze", g.add("Cast", x, to=7), g.constant([-1], "axes"))
        return g.add("Gather", g.constant(table, "table"), token, axis=0)
    return x


def decode(g: GraphBuilder, model: SequenceModel, x: str, output: str | None = "y") -> str:
    """The decoder, to the output ``y``."""
    if model.config.decoder == "linear":
        return linear(g, model.decoder, x, output=output)
    return g.add("Identity", x, output=output)


def read_inputs(g: GraphBuilder, systems: SystemsConfig, u: str) -> str:
    """The feature that each channel reads, over the last axis."""
    if not systems.inputs:
        return u
    return g.add("Gather", u, g.constant(np.array(systems.inputs), "inputs"), axis=-1)


def norm(g: GraphBuilder, kind: Norm, module: nn.Module, x: str) -> str:
    """A norm; see `s4edge.model.norms`."""
    if kind == "layer":
        scale, shift = (g.constant(value) for value in parameters(module, "weight", "bias"))
        epsilon = float(module.eps)  # type: ignore[arg-type]
        return g.add("LayerNormalization", x, scale, shift, axis=-1, epsilon=epsilon)
    if kind == "affine":
        scale, shift = (g.constant(value) for value in parameters(module, "weight", "bias"))
        return g.add("Add", g.add("Mul", x, scale), shift)
    if kind == "standardize":
        factor, offset = parameters(module, "scale", "shift")
        centred = g.add("Sub", x, g.add("ReduceMean", x, axes=[-1], keepdims=1))
        power = g.add("ReduceMean", g.add("Mul", centred, centred), axes=[-1], keepdims=1)
        whitened = g.add("Div", g.add("Add", centred, g.constant(offset)), g.add("Sqrt", power))
        return g.add("Mul", whitened, g.constant(factor))
    if kind in OVER_TIME:
        return _norm_over_time(g, module, x, list(OVER_TIME[kind]))
    return x


def _norm_over_time(g: GraphBuilder, module: nn.Module, x: str, axes: list[int]) -> str:
    """A norm of (batch, length, features) with statistics over these axes."""
    scale, shift = (g.constant(value) for value in parameters(module, "weight", "bias"))
    centred = g.add("Sub", x, g.add("ReduceMean", x, axes=axes, keepdims=1))
    variance = g.add("ReduceMean", g.add("Mul", centred, centred), axes=axes, keepdims=1)
    deviation = g.add("Sqrt", g.add("Add", variance, g.constant(float(module.epsilon))))  # type: ignore[arg-type]
    return g.add("Add", g.add("Mul", g.add("Div", centred, deviation), scale), shift)


def after_systems(g: GraphBuilder, block: Block, x: str, u: str, y: str) -> str:
    """From the outputs of a block's systems to the block's.

    Args:
        g: the graph.
        block: of the model.
        x: the block's input.
        u: what the systems read (``x`` after a pre-norm).
        y: what they gave.
    """
    config = block.config
    width = config.systems.channels
    if config.hyper is not None:
        width //= 2
        value, factor = g.split(y, [width, width])
        y = g.add("Mul", g.activation(config.hyper, factor, width), value)
    y, width = g.activation(config.activation, y, width), output_width(config.activation, width)
    if block.gate is not None:
        gate, width = block.gate.config, block.gate.config.width
        branch = _activated(g, block.gate.input, gate.activation, u)
        y = g.add("Mul", _activated(g, block.gate.output, gate.output_activation, y), branch)
    y = g.activation(config.multiplied_activation, y, width)
    if config.mixing == "linear":
        y = _activated(g, block.mixing, config.final_activation, y)
    else:
        y = g.activation(config.final_activation, y, width)
    if config.projection == "linear":
        y = linear(g, block.projection, y)
    if block.highway is not None:
        y = _highway(g, block.highway, x, y, config.residual_weights[0])
    elif config.residual:
        if config.residual_form == "scaled":
            y = g.add("Mul", y, g.constant(numbers(block.residual_scale), "scale"))
        y = g.add("Add", _scaled(g, x, config.residual_weights[0]),
                  _scaled(g, y, config.residual_weights[1]))  # fmt: skip
    return norm(g, config.norm, block.norm, y) if config.norm_placement == "post" else y


def _highway(g: GraphBuilder, module: Highway, x: str, y: str, of_x: float) -> str:
    y = linear(g, module.output, y)
    gate = g.add("Sigmoid", g.add("Add", linear(g, module.input, x), y))
    scaled = _scaled(g, x, of_x)
    return g.add("Add", scaled, g.add("Mul", gate, g.add("Sub", y, scaled)))


def widened(g: GraphBuilder, block: Block, x: str, features: int) -> str:
    """What leaves a block of what leaves its layer, ``features`` wide, and its downsampling."""
    config = block.config
    if config.repeat != 1:
        indices = np.repeat(np.arange(features), config.repeat)
        x = g.add("Gather", x, g.constant(indices, "repeated"), axis=-1)
    return x if config.widening is None else linear(g, block.widening, x)


def _activated(g: GraphBuilder, module: nn.Module, activation: str, x: str) -> str:
    """A linear layer and what follows it."""
    weight, bias = parameters(module, "weight", "bias")
    width = len(bias)
    if not activation.startswith("glu"):
        return g.activation(activation, g.linear(x, weight, bias), width)
    # Two products instead of one and a split, which would take longer.
    value, gate = (g.linear(x, weight[part], bias[part])
                   for part in (slice(width // 2), slice(width // 2, None)))  # fmt: skip
    return g.add("Mul", value, g.activation(gate_of(activation), gate, width // 2))


def _scaled(g: GraphBuilder, x: str, by: float) -> str:
    return x if by == 1 else g.add("Mul", x, g.constant(by))
