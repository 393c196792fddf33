"""Hypothesis strategies for models in s4edge's own form: every field of the configuration is drawn.

`random_models` draws a `RandomModel`: a configuration, how its numbers are made, and how many
samples to run it on. ``RandomModel.build()`` is the `SequenceModel`, ``RandomModel.inputs()`` what
goes in. Numbers come from a seed, so that hypothesis has little to draw and shrinks what matters,
which is the configuration; printed, a `RandomModel` is the code that makes it again.

For another way of running models (a compiled C library, say), draw with ``streams=True`` and
compare with ``naive_model.Naive(model)``, which computes outputs from the numbers alone in float64
and says how far rounding may carry them:

    @given(random_models(streams=True))
    def test_c(drawn):
        model, naive = drawn.build(), Naive(drawn.build())
        expected = naive.running(drawn.inputs())    # (batch, samples, d_output)
        ...
        assert error <= naive.tolerance(drawn.inputs(), 1e-5)

``test_random_models.test_every_field_is_drawn`` fails when the configuration has a field, or a
field a literal, that is never drawn.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from hypothesis import assume
from hypothesis import strategies as st

from s4edge.model.block import Block
from s4edge.model.configuration import (
    Activation,
    BlockConfig,
    DenseLayer,
    Downsampling,
    Encoder,
    GateConfig,
    HeadConfig,
    ModelConfig,
    Norm,
    Pooling,
    Residual,
)
from s4edge.model.dense.low_rank import LowRankConfig
from s4edge.model.dense.plain import Plain, PlainConfig
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.diagonal import DiagonalConfig, DiagonalSystems
from s4edge.model.systems.feedforward import FeedForwardConfig

ACTIVATIONS: tuple[str, ...] = get_args(Activation)
GATED = ("glu", *(f"glu-{name}" for name in ACTIVATIONS))
OVER_TIME = ("instance", "group", "batch")
MOST_SAMPLES = 48
BATCH = 2


@dataclass(frozen=True)
class Numbers:
    """How parameters are made.

    Attributes:
        seed: of all of them.
        slowest: least ``-log |a|`` of a pole; the largest is about 1.
        repeated: whether a channel's poles stand twice.
        silent: whether every third weight is exactly 0.
        real_pairs: whether some pairs have an angle of exactly 0.
        double: whether systems are in float64 while all else is in float32.
        shared: whether channels of equally many modes have the same, but for their step sizes.
        cancels: whether every second pair of a layer takes away most of what the one before it
            gives; the weights of such systems are float64.
    """

    seed: int = 0
    slowest: float = 0.1
    repeated: bool = False
    silent: bool = False
    real_pairs: bool = False
    double: bool = False
    shared: bool = False
    cancels: bool = False


@dataclass(frozen=True)
class RandomModel:
    """A drawn model.

    Attributes:
        config: what it is.
        numbers: how its parameters are made.
        samples: how long a sequence to run it on.
    """

    config: ModelConfig
    numbers: Numbers
    samples: int

    def build(self) -> SequenceModel:
        """The model with its numbers, in float32 as it would be stored."""
        rng = np.random.default_rng(self.numbers.seed)
        model = SequenceModel(self.config)
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, DiagonalSystems):
                    if self.numbers.double or self.numbers.cancels:
                        module.double()
                    _fill_systems(module, self.numbers, rng)
                else:
                    for name, parameter in module.named_parameters(recurse=False):
                        _set(parameter, _around(name, parameter.shape, rng))
        return model.eval()

    def inputs(self, samples: int | None = None, batch: int = BATCH) -> np.ndarray:
        """(batch, samples, d_input) or (batch, samples) tokens, whatever the order of axes."""
        return inputs_of(self.config, batch, samples or self.samples, self.numbers.seed + 1)


def inputs_of(config: ModelConfig, batch: int, samples: int, seed: int) -> np.ndarray:
    """Random sequences for a model, time before features; exactly float32."""
    rng = np.random.default_rng(seed)
    if config.encoder == "embedding":
        return rng.integers(0, config.d_input, (batch, samples))
    x = rng.standard_normal((batch, samples, config.d_input))
    return x.astype(np.float32).astype(np.float64)


def as_the_model_takes_it(config: ModelConfig, x: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """A tensor of `inputs_of`."""
    if config.encoder == "embedding":
        return torch.from_numpy(x)
    tensor = torch.from_numpy(x).to(dtype)
    return tensor.mT if config.channels_first else tensor


# Numbers


def _set(parameter: torch.Tensor, value: Any) -> None:
    parameter.copy_(torch.from_numpy(np.asarray(value, dtype=np.float64)))


def _around(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Matrices that keep signals at their size; scales about 1, shifts about 0."""
    if len(shape) > 1:
        return rng.standard_normal(shape) / math.sqrt(shape[-1])
    around = 1.0 if name in ("weight", "scale") else 0.0
    return around + 0.2 * rng.standard_normal(shape)


def _fill_systems(systems: DiagonalSystems, numbers: Numbers, rng: np.random.Generator) -> None:
    config = systems.config
    for kind, counts in (("pair", config.pairs), ("real", config.reals)):
        owner = np.repeat(np.arange(len(counts)), counts)
        decay = np.exp(rng.uniform(math.log(numbers.slowest), 0.3, len(owner)))
        angle = rng.uniform(0.005, 3.13, len(owner))
        sign = rng.choice([-1.0, 1.0], len(owner))
        if numbers.repeated and len(owner):
            twin = np.maximum(np.arange(len(owner)) // 2 * 2, 0)
            twin = np.where(owner[twin] == owner, twin, np.arange(len(owner)))
            decay, angle, sign = decay[twin], angle[twin], sign[twin]
        if numbers.shared and len(owner) and len(set(counts)) == 1:
            # As DSS does, with steps that bring no pole round the circle.
            step = rng.uniform(0.3, 0.9, len(counts))[owner]
            mode = np.arange(len(owner)) % counts[0]
            decay, angle, sign = decay[mode] * step, angle[mode] * step, sign[mode]
        # As a zero-order hold does: slow modes take in little of each sample.
        size = -np.expm1(-decay) / np.maximum(1, np.asarray(counts)[owner])
        size = size * np.where(numbers.silent & (np.arange(len(owner)) % 3 == 1), 0.0, 1.0)
        if kind == "pair":
            angle = np.where(numbers.real_pairs & (np.arange(len(owner)) % 4 == 2), 0.0, angle)
            weight = size[:, None] * rng.standard_normal((len(owner), 2))
            if numbers.cancels:
                first = np.flatnonzero((np.arange(len(owner) - 1) % 2 == 0) & (np.diff(owner) == 0))
                decay[first + 1], angle[first + 1] = decay[first], angle[first] + 1e-3
                weight[first] *= 1e4
                weight[first + 1] = -weight[first]
            _set(systems.pair_log_decay, np.log(decay))
            _set(systems.pair_angle, angle)
            _set(systems.pair_weight, weight)
        else:
            _set(systems.real_log_decay, np.log(decay))
            _set(systems.real_sign, sign)
            _set(systems.real_weight, size * rng.standard_normal(len(owner)))
    grows = sum(config.growing)
    if grows:
        length = systems.length or 1
        _set(systems.growing_log_rate, rng.uniform(0, 3 / length, grows))
        _set(systems.growing_angle, rng.uniform(0.05, 3, grows))
        _set(systems.growing_weight, rng.standard_normal((grows, 2)) / length)
    if config.feedthrough:
        _set(systems.D, rng.standard_normal(config.channels))


@st.composite
def numbers(draw: st.DrawFn, slowest: float = 1e-4, cancels: bool = False) -> Numbers:
    """Poles near the unit circle and far from it, repeated ones, weights of 0, or that cancel."""
    choices = [each for each in (0.3, 0.1, 1e-2, 1e-3, 1e-4, 1e-6) if each >= slowest]
    return Numbers(
        seed=draw(st.integers(0, 9999)),
        slowest=draw(st.sampled_from(choices)),
        repeated=draw(_seldom()),
        silent=draw(_seldom()),
        real_pairs=draw(_seldom()),
        double=draw(_seldom()),
        shared=draw(_seldom()),
        cancels=cancels and draw(_seldom()),
    )


def _seldom() -> st.SearchStrategy[bool]:
    return st.sampled_from([False, False, False, True])


# Configurations


@dataclass(frozen=True)
class _Frame:
    """What a block's parts have to fit.

    Attributes:
        width: features that enter it.
        leaving: features that leave its layer; None for any.
        streams: whether it must have a recurrence; None for either.
        length: of the model.
    """

    width: int
    leaving: int | None
    streams: bool | None
    length: int | None


def _counts(draw: st.DrawFn, channels: int, most: int) -> tuple[int, ...]:
    """Of modes, the same in all channels or not."""
    if draw(st.booleans()):
        return (draw(st.integers(0, most)),) * channels
    each = st.integers(0, most)
    return tuple(draw(st.lists(each, min_size=channels, max_size=channels)))


@st.composite
def systems_configs(
    draw: st.DrawFn, channels: int, frame: _Frame, backward: bool = False
) -> DiagonalConfig:
    """The systems of one layer, ``channels`` of them, that read ``frame.width`` features."""
    pairs, reals = _counts(draw, channels, 4), _counts(draw, channels, 3)
    # So long that it is no cut at any layer's rate.
    least = (frame.length or 0) * 3**4 + 1 if frame.streams is True else 1
    kernel_length = draw(st.none() | st.integers(least, least + 39))
    growing = (0,) * channels
    may_grow = frame.streams is not True and (frame.length or kernel_length) is not None
    if may_grow and draw(st.booleans()):
        growing = _counts(draw, channels, 2)
    inputs: tuple[int, ...] = ()
    if channels != frame.width or draw(_seldom()):
        each = st.integers(0, frame.width - 1)
        inputs = tuple(draw(st.lists(each, min_size=channels, max_size=channels)))
    states_per_size = draw(st.sampled_from([1, 2]))
    states = 2 * np.add(pairs, growing) + np.array(reals)
    state_size: int | float = -(-int(states.max()) // states_per_size)
    if draw(_seldom()):  # as after an allocation
        state_size = round(float(states.mean()) / states_per_size, 3)
    return DiagonalConfig(
        kind=draw(st.sampled_from(["s4d", "dss", "feedforward"])),
        state_size=state_size,
        states_per_size=states_per_size,
        pairs=pairs,
        reals=reals,
        growing=growing,
        inputs=inputs,
        kernel_length=kernel_length,
        feedthrough=draw(_seldom() if backward else st.booleans()),
    )


def _halved(activation: str | None) -> int:
    return 2 if activation is not None and activation.startswith("glu") else 1


def _activation(draw: st.DrawFn) -> Any:
    return draw(st.sampled_from(ACTIVATIONS))


def _final_activation(draw: st.DrawFn) -> str:
    return draw(st.sampled_from(ACTIVATIONS) | st.sampled_from(GATED))


def _norm(draw: st.DrawFn, features: int, streams: bool | None) -> Any:
    """A norm that a model may have there: of one feature upstream's own deviation is 0."""
    possible: list[str] = [
        kind
        for kind in get_args(Norm)
        if not (kind == "standardize" and features == 1)
        and not (kind in OVER_TIME and (streams is True))
    ]
    return draw(st.sampled_from(possible))


def _epsilon(draw: st.DrawFn) -> float:
    return draw(st.sampled_from([1e-5, 1e-12, 1e-8, 1e-3, 0.1]))


@st.composite
def blocks(draw: st.DrawFn, name: str, frame: _Frame) -> BlockConfig:
    """A block that ``frame.width`` features enter, every part of it drawn."""
    said = frame.leaving is None and draw(_seldom())
    if frame.leaving is not None:
        leaving = frame.leaving
    else:
        leaving = draw(st.integers(1, 5)) if said else frame.width
    activation, final = _final_activation(draw), _final_activation(draw)
    hyper = _activation(draw) if draw(_seldom()) else None
    mixing, projection = draw(st.sampled_from(["linear", "none"])), "none"
    if draw(_seldom()):
        projection = "linear"
    mixing_width = None
    # Backwards from what leaves: where nothing fits the width, the channels have to.
    needed: int | None = None if projection == "linear" else leaving * _halved(final)
    if mixing == "linear":
        if needed is None:
            mixing_width = draw(st.integers(1, 5)) * _halved(final)
        elif draw(st.booleans()):
            mixing_width = needed
        needed = None
    elif needed is None:
        needed = draw(st.integers(1, 4)) * _halved(final)
    gate = None
    if draw(_seldom()):
        gate = GateConfig(
            width=needed if needed is not None else draw(st.integers(1, 5)),
            activation=_activation(draw),
            output_activation=_final_activation(draw),
        )
        needed = None
    halvings = _halved(activation) * (1 if hyper is None else 2)
    heads = draw(st.sampled_from([1, 1, 1, 2, 3])) if needed is None else 1
    plain = frame.width * (halvings if frame.width % halvings else 1) * heads
    channels = plain if needed is None else needed * halvings
    systems: DiagonalConfig | FeedForwardConfig = draw(systems_configs(channels, frame))
    if draw(_seldom()):
        kind = draw(st.sampled_from(["feedforward", "identity"]))
        systems = FeedForwardConfig(kind, channels, systems.inputs)
    backward = None
    if frame.streams is not True and draw(_seldom()):
        backward = draw(systems_configs(channels, frame, backward=True))
    placement = draw(st.sampled_from(["pre", "post"]))
    features = frame.width if placement == "pre" else leaving
    residual = frame.width == leaving and draw(st.sampled_from([True, True, False]))
    stride = draw(st.sampled_from([1, 1, 1, 2, 3]))
    downsampling = draw(st.sampled_from(get_args(Downsampling)))
    repeat = draw(st.sampled_from([1, 1, 1, 2]))
    widening = None
    stacked = stride if downsampling == "stack" else 1
    if draw(_seldom()) or leaving * stacked * repeat > 8:
        widening = draw(st.integers(1, 5))
    block = BlockConfig(
        name=name,
        systems=systems,
        norm=_norm(draw, features, frame.streams),
        norm_placement=placement,
        norm_epsilon=_epsilon(draw),
        residual=residual,
        activation=activation,
        mixing=mixing,
        final_activation=final,
        backward=backward,
        hyper=hyper,
        gate=gate,
        multiplied_activation=_activation(draw),
        mixing_width=mixing_width,
        projection=projection,
        residual_weights=draw(st.sampled_from([(1.0, 1.0), (0.6, 0.8), (1.0, 0.3), (0.5, 1.0)])),
        stride=stride,
        residual_form=draw(st.sampled_from(get_args(Residual))) if residual else "sum",
        d_output=leaving if said else None,
        downsampling=downsampling,
        repeat=repeat,
        widening=widening,
    )
    if not draw(_seldom()):
        return block
    built = Block(block, frame.width, leaving)
    said = [DenseLayer(each, draw(_dense_kinds(built, each))) for each in block.dense_names]
    return dataclasses.replace(block, dense=tuple(said))


@st.composite
def _dense_kinds(draw: st.DrawFn, block: Block, name: str) -> PlainConfig | LowRankConfig:
    plain = block.get_submodule(name)
    assert isinstance(plain, Plain)
    if draw(st.booleans()):
        return PlainConfig()
    return LowRankConfig(draw(st.integers(1, min(plain.in_features, plain.out_features))))


@st.composite
def configurations(draw: st.DrawFn, streams: bool | None = None) -> ModelConfig:
    """A whole model, a backbone without ends, or a bare layer.

    Args:
        draw: of hypothesis.
        streams: whether it must have a recurrence, or must not be looked for it (None).
    """
    bare = draw(st.sampled_from([False, False, False, True]))
    d_model = draw(st.integers(1, 5))
    encoder = "none" if bare else draw(st.sampled_from(get_args(Encoder)))
    decoder = "none" if bare else draw(st.sampled_from(["linear", "linear", "none"]))
    depth = 1 if bare else draw(st.integers(1, 3))
    d_input = d_model if encoder == "none" else draw(st.integers(1, 4))
    length = draw(st.sampled_from([None, None, None, 1, 7, 24, MOST_SAMPLES]))
    found: list[BlockConfig] = []
    width = d_model
    for index in range(depth):
        block = draw(blocks(f"layers.{index}", _Frame(width, None, streams, length)))
        width = block.features_out(block.d_output or width)
        found.append(block)
    if bare and draw(st.booleans()):
        # A lone layer may give another number of features than it takes without saying it.
        width = draw(st.integers(1, 4))
        lone = draw(blocks("layer", _Frame(d_model, width, streams, length)))
        found = [dataclasses.replace(lone, repeat=1, widening=None, downsampling="mean")]
    d_output = draw(st.integers(1, 4)) if decoder == "linear" else width
    input_stride = draw(st.sampled_from([1, 1, 1, 2, 3]))
    stride = input_stride * math.prod(block.stride for block in found)
    if length is not None and length % stride:
        length *= stride
    pooling = "none" if bare else draw(st.sampled_from(get_args(Pooling)))
    answers = draw(st.sampled_from([0, 0, 0, 1, 3, None])) if pooling != "none" else 0
    if length is not None and answers is not None:
        answers = min(answers, length // stride)
    config = ModelConfig(
        d_input=d_input,
        d_output=d_output,
        d_model=d_model,
        encoder=encoder,
        blocks=tuple(found),
        pooling=pooling,
        decoder=decoder,
        length=length,
        final_norm=_norm(draw, width, streams),
        norm_epsilon=_epsilon(draw),
        channels_first=bare and draw(st.booleans()),
        answers=answers,
        head=draw(heads()) if not bare and draw(_seldom()) else None,
        input_stride=input_stride,
        held=draw(st.booleans()),
    )
    # Kernels may be cut before the first answer.
    assume(not streams or config.streams)
    return config


@st.composite
def heads(draw: st.DrawFn) -> HeadConfig:
    """What compares two answers."""
    return HeadConfig(
        widths=tuple(draw(st.lists(st.integers(1, 5), max_size=2))),
        activation=_activation(draw),
        d_output=draw(st.integers(1, 3)),
        contrasts=draw(st.booleans()),
    )


@st.composite
def random_models(
    draw: st.DrawFn,
    streams: bool | None = None,
    slowest: float = 1e-4,
    cancels: bool = False,
) -> RandomModel:
    """A model with its numbers.

    Args:
        draw: of hypothesis.
        streams: True for models with a recurrence only.
        slowest: least ``-log |a|``.
        cancels: whether weights may cancel so much that float32 cannot hold the states.
    """
    config = draw(configurations(streams))
    # Whole strides, as stacking asks for; and as many as there are answers.
    stride = config.stride if any(b.downsampling == "stack" for b in config.blocks) else 1
    least = config.stride * max(1, config.answers or 0) // stride
    samples = config.length or stride * draw(st.integers(least, max(least, 40 // stride)))
    return RandomModel(config, draw(numbers(slowest, cancels)), samples)
