"""A program run by numpy in double precision: what every backend is to give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from s4edge.arrays import Float
from s4edge.export.lowering.program import (
    Activation,
    Affine,
    Downsample,
    Embedding,
    Gather,
    Glu,
    Hold,
    LayerNorm,
    Linear,
    Pool,
    Product,
    Program,
    Recurrence,
    Stage,
    Standardize,
    WeightedSum,
    state_width,
)
from s4edge.model.activations import LAPLACE_DEVIATION, LAPLACE_MEAN
from s4edge.systems.modes import expm1

FUNCTIONS: dict[str, Callable[[Float], Float]] = {
    "identity": lambda x: x,
    "gelu": lambda x: x * ndtr(x),
    "relu": lambda x: np.maximum(x, 0),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "silu": lambda x: x * expit(x),
    "sigmoid": expit,
    "softplus": lambda x: np.logaddexp(x, 0),
    "tanh": np.tanh,
    "sqrelu": lambda x: np.square(np.maximum(x, 0)),
    "laplace": lambda x: ndtr((x - LAPLACE_MEAN) / LAPLACE_DEVIATION),
}


def run(program: Program, x: NDArray[Any], state: Float | None = None) -> tuple[Float, Float]:
    """The outputs of samples that follow each other, and the state that they leave.

    Args:
        program: of a model.
        x: (samples, d_input), or (samples,) tokens.
        state: of `Program.layout` without arguments: as `s4edge.model` has it, states as real
            parts of pairs, imaginary parts, then real poles, pairs and poles each channel by
            channel; None: zeros.

    Returns:
        (samples, d_output) and the state after the last.
    """
    layout = program.layout()
    state = np.zeros(state_width(layout)) if state is None else np.array(state, np.float64)
    values: dict[str, Float] = {"x": np.asarray(x)}
    for stage in program.stages:
        held = [
            state[segment.offset : segment.offset + segment.width]
            for segment in layout
            if segment.stage == stage.name
        ]
        inputs = [values[name] for name in stage.inputs]
        if isinstance(stage.operation, Hold):
            values[stage.name] = _hold(stage.operation, inputs[0], len(x), *held)
        else:
            values[stage.name] = _compute(stage, inputs, held)
    return np.asarray(values[program.output], np.float64), state


def _compute(stage: Stage, inputs: list[Float], held: list[Float]) -> Float:
    """(samples, width) of a stage; ``held`` is its state, which changes in place."""
    x, operation = inputs[0], stage.operation
    if isinstance(operation, Embedding):
        return operation.table.value[x.reshape(len(x)).astype(np.int64)]
    if isinstance(operation, Linear):
        return x @ operation.weight.value.T + operation.bias.value
    if isinstance(operation, LayerNorm):
        centred = x - x.mean(axis=1, keepdims=True)
        variance = np.square(centred).mean(axis=1, keepdims=True)
        normal = centred / np.sqrt(variance + operation.epsilon)
        return normal * operation.scale.value + operation.shift.value
    if isinstance(operation, Standardize):
        deviation = x.std(axis=1, keepdims=True)
        centred = x - x.mean(axis=1, keepdims=True) + operation.shift.value
        return operation.scale.value / deviation * centred
    if isinstance(operation, Affine):
        shift = 0.0 if operation.shift is None else operation.shift.value
        return x * operation.scale.value + shift
    if isinstance(operation, Gather):
        return x[:, list(operation.indices)]
    if isinstance(operation, Recurrence):
        return _systems(operation, x, held[0] if held else np.zeros(0))
    if isinstance(operation, Activation):
        return FUNCTIONS[operation.function](x)
    if isinstance(operation, Glu):
        value, gate = np.split(x, 2, axis=1)
        return value * FUNCTIONS[operation.function](gate)
    if isinstance(operation, Product):
        return x * inputs[1]
    if isinstance(operation, WeightedSum):
        return operation.weights[0] * x + operation.weights[1] * inputs[1]
    if isinstance(operation, Downsample):
        return _downsample(operation, x, held)
    assert isinstance(operation, Pool)
    return _pool(operation.kind, x, held)


def _systems(systems: Recurrence, u: Float, state: Float) -> Float:
    modes = systems.modes
    pair, real = ~modes.is_real, modes.is_real
    pairs = int(pair.sum())
    # (a - 1), which keeps the digits of slow poles.
    change = expm1(modes.log_pole)
    z = np.zeros(len(change), np.complex128)
    z[pair] = state[:pairs] + 1j * state[pairs : 2 * pairs]
    z[real] = state[2 * pairs :]
    change[real] = change[real].real
    y = systems.feedthrough.value * u
    for t, sample in enumerate(u):
        z = z + change * z + sample[modes.channel]
        y[t] += np.bincount(modes.channel, (modes.weight * z).real, minlength=modes.channels)
    state[:] = np.concatenate([z[pair].real, z[pair].imag, z[real].real])
    return y


def _pool(kind: str, x: Float, held: list[Float]) -> Float:
    pooled = held[0]
    y = np.empty_like(x, dtype=np.float64)
    for t, sample in enumerate(x):
        if kind == "sum":
            pooled += sample
        else:
            seen = held[1]
            seen += 1
            if kind == "mean":
                pooled += (sample - pooled) / seen
            elif seen == 1:
                pooled[:] = sample
        y[t] = pooled
    return y


def _downsample(downsample: Downsample, x: Float, held: list[Float]) -> Float:
    """What windows become that end here, or for "sample" begin."""
    *gathered, count = held
    stride, kind, left = downsample.stride, downsample.kind, []
    for sample in x:
        at = int(count[0])
        count[0] = (at + 1) % stride
        if kind == "sample":
            left += [sample] if at == 0 else []
            continue
        (window,) = gathered
        if kind == "stack":
            window.reshape(len(sample), stride)[:, at] = sample
        else:
            window += sample / stride
        if at == stride - 1:
            left.append(window.copy())
            window[:] = 0
    width = gathered[0].size if gathered else x.shape[1]
    return np.array(left, np.float64).reshape(len(left), width)


def _hold(hold: Hold, y: Float, samples: int, answer: Float, count: Float) -> Float:
    """The latest answer after each of so many samples."""
    answers, out = iter(y), np.empty((samples, len(answer)))
    for t in range(samples):
        if count[0] == hold.first:
            answer[:] = next(answers)
        count[0] = (count[0] + 1) % hold.period
        out[t] = answer
    return out
