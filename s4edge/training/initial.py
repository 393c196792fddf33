"""Models that nothing has been trained on: S4D layers in the backbone of upstream's ``example.py``.

Sources: A. Gu, A. Gupta, K. Goel and C. Ré, "On the parameterization and initialization of diagonal
state space models" (2022), for S4D-Lin and S4D-LegS; A. Gupta, A. Gu and J. Berant, "Diagonal state
spaces are as effective as structured state spaces" (2022), which calls the latter Skew-HiPPO.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch

from s4edge.arrays import Complex
from s4edge.errors import S4EdgeError
from s4edge.model.configuration import BlockConfig, Encoder, ModelConfig, Pooling
from s4edge.model.sequence_model import Provenance, SequenceModel
from s4edge.model.systems.diagonal import DiagonalConfig, DiagonalSystems
from s4edge.systems.modes import Modes, expm1

Start = Literal["lin", "legs"]


def poles(start: Start, pairs: int) -> Complex:
    """(pairs,) of the continuous system, the half with positive imaginary parts, slowest first."""
    if start == "lin":
        return np.asarray(-0.5 + 1j * math.pi * np.arange(pairs), dtype=np.complex128)
    root = np.sqrt(2 * np.arange(2 * pairs) + 1)
    skew = np.outer(root, root) / 2
    skew = np.triu(skew, 1) - np.tril(skew, -1)
    frequencies = np.linalg.eigvalsh(-1j * skew)
    return -0.5 + 1j * np.sort(frequencies[frequencies > 0])


def initial_model(
    d_input: int,
    d_output: int,
    *,
    d_model: int,
    layers: int,
    state: int,
    seed: int,
    encoder: Encoder = "linear",
    pooling: Pooling = "mean",
    start: Start = "legs",
    step_size: tuple[float, float] = (1e-3, 1e-1),
) -> SequenceModel:
    """A model of random weights.

    Args:
        d_input: features of an input sample, or tokens for the encoder "embedding".
        d_output: features of the output.
        d_model: channels of every layer.
        layers: how many; post-norm, GELU and GLU as upstream has them.
        state: even; ``state / 2`` conjugate pairs in every channel.
        seed: of all random numbers.
        encoder: "linear" or "embedding".
        pooling: over time.
        start: of the poles: "lin" (S4D-Lin) or "legs" (S4D-LegS, Skew-HiPPO).
        step_size: smallest and largest, log-uniform over channels.

    Raises:
        S4EdgeError: the state size is odd.
    """
    if state < 2 or state % 2:
        raise S4EdgeError(f"a start of conjugate pairs needs an even state size, got {state}")
    rng = np.random.default_rng(seed)
    pairs = state // 2
    systems = DiagonalConfig("S4D", state, 1, (pairs,) * d_model, (0,) * d_model, (0,) * d_model)
    blocks = tuple(
        BlockConfig(
            name=f"s4_layers.{index}", systems=systems, norm="layer", norm_placement="post",
            norm_epsilon=1e-5, residual=True, activation="gelu", mixing="linear",
            final_activation="glu",
        )
        for index in range(layers)
    )  # fmt: skip
    config = ModelConfig(
        d_input, d_output, d_model, encoder, blocks, pooling, decoder="linear", length=None
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SequenceModel(config, Provenance(format="random start"))
    a = poles(start, pairs)
    for block in model.blocks:
        low, high = np.log(step_size)
        dt = np.exp(rng.uniform(low, high, (d_model, 1)))
        C = rng.normal(size=(d_model, pairs)) + 1j * rng.normal(size=(d_model, pairs))
        weight = 2 * C / math.sqrt(2) * expm1(dt * a) / a
        modes = Modes.from_rows(_without_real_poles(dt * a), weight)
        block.systems = DiagonalSystems.from_modes(
            modes, rng.normal(size=d_model), kind="S4D", state_size=state, states_per_size=1,
            dtype=torch.float32,
        )  # fmt: skip
    return model.eval()


def _without_real_poles(log_pole: Complex) -> Complex:
    """S4D-Lin's first pole is real, but free to leave the real axis: so it stays a pair here."""
    nearly = 1e-4 * np.abs(log_pole.real)
    return np.where(log_pole.imag == 0, log_pole + 1j * nearly, log_pole)
