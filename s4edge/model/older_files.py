"""Files from before there were kinds of systems, as they are written now.

They say feed-forward layers by systems without states that have ``D = 1``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from s4edge.model.configuration import BlockConfig, ModelConfig
from s4edge.model.systems.base import SystemsConfig
from s4edge.model.systems.diagonal import DiagonalConfig
from s4edge.model.systems.feedforward import FeedForwardConfig


def renewed(
    said: dict[str, Any], config: ModelConfig, tensors: dict[str, Tensor]
) -> tuple[ModelConfig, dict[str, Tensor]]:
    """A configuration and tensors with feed-forward layers as such.

    Args:
        said: the configuration's JSON object.
        config: of it.
        tensors: that fit it.
    """
    blocks: list[BlockConfig] = []
    for index, (block, its) in enumerate(zip(config.blocks, said["blocks"], strict=True)):
        prefix = f"blocks.{index}.systems."
        systems = None if "tag" in its["systems"] else _feedforward(block.systems, prefix, tensors)
        if systems is not None:
            block = dataclasses.replace(block, systems=systems)
            tensors = {name: each for name, each in tensors.items() if not name.startswith(prefix)}
        blocks.append(block)
    return dataclasses.replace(config, blocks=tuple(blocks)), tensors


def _feedforward(
    systems: SystemsConfig, prefix: str, tensors: dict[str, Tensor]
) -> FeedForwardConfig | None:
    if not isinstance(systems, DiagonalConfig) or systems.real_states or not systems.feedthrough:
        return None
    if systems.kernel_length is not None or not bool((tensors[f"{prefix}D"] == 1).all()):
        return None
    return FeedForwardConfig(systems.kind, systems.channels, systems.inputs)
