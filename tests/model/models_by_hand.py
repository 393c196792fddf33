"""Random models in the one form, built from configuration, with ragged numbers of modes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from s4edge.model.configuration import BlockConfig, ModelConfig
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.diagonal import DiagonalSystems
from s4edge.systems.modes import Modes


def random_modes(
    rng: np.random.Generator,
    channels: int,
    *,
    most_pairs: int = 5,
    most_reals: int = 3,
    slowest: float = 1e-3,
) -> Modes:
    """Each channel with its own numbers of pairs and real poles of both signs, maybe none."""
    log_pole, channel = [], []
    for h in range(channels):
        pairs, reals = rng.integers(0, most_pairs + 1), rng.integers(0, most_reals + 1)
        decay = -np.exp(rng.uniform(np.log(slowest), np.log(0.7), pairs + reals))
        angle = np.concatenate([rng.uniform(0.01, 3, pairs), rng.choice([0, np.pi], reals)])
        log_pole.append(decay + 1j * angle)
        channel += [h] * (pairs + reals)
    total = len(channel)
    weight = rng.standard_normal(total) + 1j * rng.standard_normal(total)
    return Modes.make(np.concatenate(log_pole), weight, channel, channels)


def random_model(seed: int = 0, *, d_model: int = 6, **changes: object) -> SequenceModel:
    """Two blocks, pre- and post-norm, different activations; ``changes`` are of ModelConfig."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    layers = []
    for _ in range(2):
        modes = random_modes(rng, d_model)
        # As a zero-order hold does: slow modes take in little of each sample.
        weight = modes.weight * -np.expm1(modes.log_pole.real)
        modes = dataclasses.replace(modes, weight=weight)
        D = rng.standard_normal(d_model)
        layers.append(
            DiagonalSystems.from_modes(modes, D, kind="random", state_size=13, states_per_size=1)
        )
    blocks = tuple(
        BlockConfig(
            name=f"blocks.{i}",
            systems=systems.config,
            norm="layer",
            norm_placement="pre" if i == 0 else "post",
            norm_epsilon=1e-5,
            residual=i == 0,
            activation="gelu" if i == 0 else "silu",
            mixing="linear",
            final_activation="glu" if i == 0 else "tanh",
        )
        for i, systems in enumerate(layers)
    )
    config = ModelConfig(
        d_input=2, d_output=3, d_model=d_model, encoder="linear", blocks=blocks, pooling="mean",
        decoder="linear", length=None,
    )  # fmt: skip
    model = SequenceModel(dataclasses.replace(config, **changes))  # type: ignore[arg-type]
    for block, systems in zip(model.blocks, layers, strict=True):
        block.systems = systems
    return model.eval()


def redescribed(path: Path, change: Callable[[list[Any]], object]) -> Path:
    """A model's file with another description of its blocks, which ``change`` changes in place."""
    with safe_open(path, "pt") as file:
        description = json.loads(file.metadata()["s4edge"])
    change(description["config"]["blocks"])
    save_file(load_file(path), path, metadata={"s4edge": json.dumps(description)})
    return path
