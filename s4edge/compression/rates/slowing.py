"""A model whose layers behind strides run on averages of samples, its numbers made anew for them.

Systems become those of held inputs and averaged outputs (`s4edge.systems.slower`); all else of a
layer has no memory and stays. At the input the encoder reads samples side by side, at first their
average.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import nn

from s4edge.arrays import Float
from s4edge.errors import S4EdgeError
from s4edge.model.block import Block
from s4edge.model.configuration import BlockConfig, ModelConfig
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.base import Systems, SystemsConfig
from s4edge.model.systems.diagonal import DiagonalConfig, DiagonalSystems
from s4edge.systems.cancellation import LARGEST_CANCELLATION, cancellation
from s4edge.systems.modes import Modes
from s4edge.systems.slower import slower, slower_backward


@dataclass(frozen=True)
class Strides:
    """Of how many samples one is made.

    Attributes:
        input: before the first layer.
        layers: behind each layer.
    """

    input: int
    layers: tuple[int, ...]

    @property
    def periods(self) -> list[int]:
        """Samples for one that enters each layer, and for one that leaves the last."""
        return list(accumulate(self.layers, lambda one, other: one * other, initial=self.input))

    @property
    def total(self) -> int:
        """Samples for one that leaves the last layer."""
        return self.periods[-1]

    def up_to(self, count: int) -> Strides:
        """The input's and those of the first layers, no others."""
        layers = self.layers[:count] + (1,) * (len(self.layers) - count)
        return Strides(self.input, layers)

    def __str__(self) -> str:
        layers = ",".join(map(str, self.layers))
        return layers if self.input == 1 else f"{self.input},{layers}"


def check_can_slow(config: ModelConfig, strides: Strides) -> None:
    """Raise S4EdgeError where a model's layers cannot run at these rates."""
    for block, stride, period in zip(config.blocks, strides.layers, strides.periods, strict=False):
        if block.stride > 1 and block.downsampling != "mean" and stride > 1:
            raise S4EdgeError(
                f"{block.name} has a stride of {block.stride} that is no average "
                f"({block.downsampling}): it can have no other; give it 1"
            )
        for systems in block.all_systems:
            # What backward systems give at once, the forward ones' D takes.
            plain = block.backward is None and not systems.real_states
            if period > 1 and not plain and systems.TAG != DiagonalConfig.TAG:
                raise S4EdgeError(
                    f"{block.name} has systems of the kind {systems.TAG!r}, which cannot be made "
                    "anew for another rate; give no stride before it"
                )
        back = block.backward
        if period > 1 and back is not None and _reads(back) != _reads(block.systems):
            raise S4EdgeError(
                f"{block.name} has backward systems that read other features than its forward "
                "ones, which cannot take what those give within a window; give no stride before it"
            )
    if config.stride > 1 and not config.held and (config.answers_each_sample or config.answers):
        raise S4EdgeError(
            f"the model gives one answer for {config.stride} samples, which further strides would "
            "make fewer"
        )
    if config.pooling == "sum" and config.decoder != "linear":
        raise S4EdgeError(
            "the model's output is a sum over samples, of which there would be fewer, and there is "
            "no decoder to make up for it"
        )
    if config.length is not None:
        check_length(config, strides, config.length, "the model's sequences")


def _reads(systems: SystemsConfig) -> tuple[int, ...] | None:
    """The feature that each channel reads, where channels do."""
    if not isinstance(systems, DiagonalConfig):
        return None
    return systems.inputs or tuple(range(systems.channels))


def check_length(config: ModelConfig, strides: Strides, samples: int, what: str) -> None:
    """Raise S4EdgeError where sequences are shorter than one window."""
    window = config.stride * strides.total
    if samples < window:
        raise S4EdgeError(
            f"strides {strides} make one sample of {window}, {what} have {samples}: choose smaller "
            "ones"
        )


def slowed(model: SequenceModel, strides: Strides) -> SequenceModel:
    """A copy of a model with these strides beside those that it has; layers before them stay.

    Raises:
        S4EdgeError: as `check_can_slow`.
    """
    old = model.config
    check_can_slow(old, strides)
    each_answer = old.answers_each_sample or bool(old.answers)
    config = dataclasses.replace(
        old,
        input_stride=old.input_stride * strides.input,
        held=old.held or (each_answer and strides.total > 1),
        blocks=tuple(
            dataclasses.replace(
                block,
                stride=block.stride * stride,
                downsampling="mean" if stride > 1 else block.downsampling,
            )
            for block, stride in zip(old.blocks, strides.layers, strict=True)
        ),
    )
    small = copy.deepcopy(model)
    if strides.input > 1 and isinstance(small.encoder, nn.Linear):
        small.encoder = _side_by_side(small.encoder, old, strides.input)
    if old.pooling == "sum" and isinstance(small.decoder, nn.Linear):
        with torch.no_grad():
            small.decoder.weight *= strides.total
    blocks, lengths = [], _lengths(config)
    for block, its, period, length in zip(
        small.blocks, config.blocks, strides.periods, lengths, strict=False
    ):
        block.config = its
        if period > 1:
            _slow(block, period, length)
        blocks.append(_configured(block, its))
    small.config = dataclasses.replace(config, blocks=tuple(blocks))
    return small


def moved_poles(model: SequenceModel, strides: Strides) -> list[float]:
    """By layer, `Slower.change` of its largest channel, forward systems' alone."""
    found = []
    for block, period in zip(model.blocks, strides.periods, strict=False):
        forward, change = block.systems, 0.0
        if period > 1 and isinstance(forward, DiagonalSystems):
            made = slower(forward.modes(), _feedthrough(forward), period)
            change = float(made.change.max(initial=0))
        found.append(change)
    return found


def _lengths(config: ModelConfig) -> list[int | None]:
    if config.length is None:
        return [None] * len(config.blocks)
    return [*config.samples_entering(config.length)]


def _configured(block: Block, config: BlockConfig) -> BlockConfig:
    back = block.backward_systems
    config = dataclasses.replace(
        config, systems=block.systems.config, backward=None if back is None else back.config
    )
    block.config = config
    return config


def _side_by_side(encoder: nn.Linear, config: ModelConfig, stride: int) -> nn.Linear:
    """An encoder of the average of ``stride`` windows, feature by feature side by side."""
    rows, old = len(encoder.weight), config.input_stride
    weight = encoder.weight.detach().reshape(rows, config.d_input, 1, old)
    joined = nn.Linear(config.d_input * old * stride, rows, dtype=weight.dtype)
    with torch.no_grad():
        joined.weight.copy_(weight.expand(-1, -1, stride, -1).reshape(rows, -1) / stride)
        joined.bias.copy_(encoder.bias)
    return joined


def _slow(block: Block, k: int, length: int | None) -> None:
    """Make a block's systems those of held inputs and averaged outputs of ``k`` samples."""
    forward, back = block.systems, block.backward_systems
    within: Float | float = 0.0
    if isinstance(back, DiagonalSystems):
        modes, D, within = slower_backward(back.modes(), _feedthrough(back), k)
        block.backward_systems = _remade(back, modes, D, k, length)
    if isinstance(forward, DiagonalSystems):
        made = slower(forward.modes(), _feedthrough(forward), k)
        block.systems = _remade(forward, made.modes, made.feedthrough + within, k, length)


def _feedthrough(systems: DiagonalSystems) -> Float:
    return np.asarray(systems.D.detach().double().numpy())


def _remade(
    systems: DiagonalSystems, modes: Modes, D: Float, k: int, length: int | None
) -> Systems:
    config = systems.config
    cut = None if config.kernel_length is None else -(-config.kernel_length // k)
    # What a fast mode gives the same sample, D takes back; stored too coarsely it would be lost.
    spoiled = cancellation(Modes.concatenate([modes, Modes.constant(D)])) > LARGEST_CANCELLATION
    return DiagonalSystems.from_modes(
        modes,
        D if config.feedthrough or D.any() else None,
        kind=config.kind,
        state_size=config.state_size,
        states_per_size=config.states_per_size,
        length=length,
        inputs=config.inputs,
        kernel_length=cut,
        dtype=torch.float64 if spoiled else systems.D.dtype,
    )
