"""A model without some features of its residual stream, and without what only those served.

With a feature go its row of the encoder, its norms' numbers, the systems that read it, and the rows
and columns of dense layers that hold it. What is left computes as before with zeros in their place.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from s4edge.arrays import Int
from s4edge.errors import S4EdgeError
from s4edge.model.block import Block
from s4edge.model.configuration import BlockConfig, ModelConfig
from s4edge.model.dense.plain import Plain
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.base import Systems
from s4edge.model.systems.diagonal import DiagonalSystems
from s4edge.model.systems.feedforward import FeedForward


def check_can_narrow(model: SequenceModel) -> None:
    """Raise S4EdgeError where a model's stream is not one width from the encoder to the decoder."""
    config = model.config
    if config.encoder == "none" or config.decoder != "linear":
        raise S4EdgeError(
            "the model has no encoder and decoder of its own: its width is that of its data"
        )
    for index, block in enumerate(config.blocks):
        why = _why_not(config, index, block) or _why_not_inside(model.blocks[index])
        if why is not None:
            raise S4EdgeError(f"{block.name} {why}: its width cannot be reduced")


def _why_not(config: ModelConfig, index: int, block: BlockConfig) -> str | None:
    if {*config.block_widths(index)} != {config.d_model} or block.widening is not None:
        return "changes the width of the stream"
    if block.repeat != 1 or (block.stride > 1 and block.downsampling == "stack"):
        return "joins or repeats features"
    if block.mixing != "linear" and block.projection != "linear":
        return "gives its channels to the stream without a dense layer"
    if block.hyper is not None or block.activation.startswith("glu"):
        return "multiplies channels by each other"
    if block.mixing != "linear" and block.gate is None and block.final_activation.startswith("glu"):
        return "multiplies channels by each other"
    return None


def _why_not_inside(block: Block) -> str | None:
    for systems in (block.systems, block.backward_systems):
        if systems is not None and not isinstance(systems, DiagonalSystems | FeedForward):
            return f"has systems of the kind {systems.config.TAG!r}"
    for name in block.config.dense_names:
        if not isinstance(block.get_submodule(name), Plain):
            return f"has a dense layer that is no single matrix, {name}"
    if block.backward_systems is not None:
        forward, back = (inputs_of(each) for each in (block.systems, block.backward_systems))
        if not np.array_equal(forward, back):
            return "reads other features backward than forward"
    return None


def inputs_of(systems: Systems) -> Int:
    """(channels,) the feature that each reads."""
    assert isinstance(systems, DiagonalSystems | FeedForward)
    config = systems.config
    chosen: Int = np.asarray(config.inputs or range(config.channels), dtype=np.int64)
    return chosen


@dataclass(frozen=True)
class Kept:
    """What of a block is kept.

    Attributes:
        features: of the stream, ascending.
        channels: of its systems, ascending.
    """

    features: Int
    channels: Int

    @staticmethod
    def of(block: Block, features: Int) -> Kept:
        """The channels that read such features."""
        return Kept(features, np.flatnonzero(np.isin(inputs_of(block.systems), features)))

    def columns(self, block: Block, name: str) -> Int:
        """Of a dense layer."""
        if name in ("gate.input", "highway.input", "highway.output"):
            return self.features
        if name == first_dense(block.config):
            return self.channels
        return np.arange(_dense(block, name).in_features)

    def rows(self, block: Block, name: str) -> Int:
        """Of a dense layer."""
        if name in ("highway.input", "highway.output") or name == last_dense(block.config):
            if name == "mixing" and block.config.final_activation.startswith("glu"):
                # The gates stand behind the values.
                half = _dense(block, name).out_features // 2
                return np.concatenate([self.features, half + self.features])
            return self.features
        return np.arange(_dense(block, name).out_features)


def first_dense(block: BlockConfig) -> str:
    """The dense layer that reads the systems' channels."""
    if block.gate is not None:
        return "gate.output"
    return "mixing" if block.mixing == "linear" else "projection"


def last_dense(block: BlockConfig) -> str:
    """The dense layer that gives the stream its features."""
    return "projection" if block.projection == "linear" else "mixing"


def _dense(block: Block, name: str) -> Plain:
    layer = block.get_submodule(name)
    assert isinstance(layer, Plain)
    return layer


def narrowed(model: SequenceModel, features: Int) -> SequenceModel:
    """A copy of a model with these features of its stream.

    Args:
        model: left as it is.
        features: ascending; one or more.

    Raises:
        S4EdgeError: as `check_can_narrow`.
    """
    check_can_narrow(model)
    kept = [Kept.of(block, features) for block in model.blocks]
    for block, each in zip(model.blocks, kept, strict=True):
        if not len(each.channels):
            raise S4EdgeError(
                f"of {len(features)} features {block.config.name} would read none: choose a larger "
                "width"
            )
    lengths: list[int | None] = [None] * len(model.blocks)
    if model.config.length is not None:
        lengths = [*model.config.samples_entering(model.config.length)]
    made = []
    for block, each, length in zip(model.blocks, kept, lengths, strict=False):
        forward = _systems(block.systems, each, length)
        back = block.backward_systems
        made.append((forward, None if back is None else _systems(back, each, length)))
    blocks = tuple(
        _configured(block, each, forward, back)
        for block, each, (forward, back) in zip(model.blocks, kept, made, strict=True)
    )
    config = dataclasses.replace(model.config, d_model=len(features), blocks=blocks)
    small = SequenceModel(config, copy.deepcopy(model.provenance)).train(model.training)
    for block, (forward, back) in zip(small.blocks, made, strict=True):
        block.systems, block.backward_systems = forward, back
    small.load_state_dict(
        {
            name: _cut(model, kept, name, tensor).clone()
            for name, tensor in model.state_dict().items()
            if ".systems." not in name and ".backward_systems." not in name
        },
        strict=False,
        assign=True,
    )
    for name, parameter in small.named_parameters():
        parameter.requires_grad_(model.get_parameter(name).requires_grad)
    return small


def _cut(model: SequenceModel, kept: list[Kept], name: str, tensor: Tensor) -> Tensor:
    """What is kept of a tensor that is not of systems."""
    features = torch.from_numpy(kept[0].features)
    part, _, inner = name.partition(".")
    if part == "decoder":
        return tensor[:, features] if inner == "weight" else tensor
    if part == "encoder":
        embedding = model.config.encoder == "embedding"
        return tensor[:, features] if embedding else tensor[features]
    if part == "blocks":
        index, _, inner = inner.partition(".")
        block, each = model.blocks[int(index)], kept[int(index)]
        dense, _, kind = inner.rpartition(".")
        if dense in block.config.dense_names:
            rows = torch.from_numpy(each.rows(block, dense))
            columns = torch.from_numpy(each.columns(block, dense))
            return tensor[rows][:, columns] if kind == "weight" else tensor[rows]
    # Of a norm, or factors of the residual: one number for each feature, or one for all.
    per_feature = part in ("blocks", "norm") and tensor.shape == (model.config.d_model,)
    standardized = tensor.shape == (1,) and inner.split(".")[-1] in ("scale", "shift")
    return tensor[features] if per_feature and not standardized else tensor


def _configured(block: Block, kept: Kept, forward: Systems, back: Systems | None) -> BlockConfig:
    config, width = block.config, block.config.mixing_width
    if config.mixing == "linear":
        if config.projection == "linear":
            width = _dense(block, "mixing").out_features
        elif width is not None:
            width = len(kept.rows(block, "mixing"))
    return dataclasses.replace(
        config,
        systems=forward.config,
        backward=None if back is None else back.config,
        mixing_width=width,
        d_output=None if config.d_output is None else len(kept.features),
    )


def _systems(systems: Systems, kept: Kept, length: int | None) -> Systems:
    """Of some channels, to the bit."""
    chosen = np.searchsorted(kept.features, inputs_of(systems)[kept.channels])
    whole = len(chosen) == len(kept.features) and (chosen == np.arange(len(chosen))).all()
    inputs = () if whole else tuple(chosen.tolist())
    if isinstance(systems, FeedForward):
        passed = dataclasses.replace(systems.config, channels=len(chosen), inputs=inputs)
        return FeedForward(passed)
    assert isinstance(systems, DiagonalSystems)
    old = systems.config

    def of_kept(counts: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(counts[channel] for channel in kept.channels)

    config = dataclasses.replace(
        old,
        inputs=inputs,
        pairs=of_kept(old.pairs),
        reals=of_kept(old.reals),
        growing=of_kept(old.growing),
    )
    small = DiagonalSystems(config, length)
    stays = np.zeros(old.channels, bool)
    stays[kept.channels] = True
    tensors = {}
    for name, tensor in systems.state_dict().items():
        kind = {"pair": old.pairs, "real": old.reals, "growing": old.growing}.get(
            name.split("_")[0]
        )
        mask = stays if kind is None else np.repeat(stays, kind)
        tensors[name] = tensor[torch.from_numpy(mask)].clone()
    small.load_state_dict(tensors, assign=True)
    return small
