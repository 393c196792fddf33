"""Samples on which what was written is compared with the model that it came from."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from s4edge.model.sequence_model import SequenceModel

# Further from the model than this, relative to the largest output, nothing is written. With fewer
# bits it is for the person to judge; only what is no longer that model at all is held back.
TOLERANCE = 1e-3
COARSE_TOLERANCE = 0.5
_BATCH = 2
# As long as the slowest pole remembers, within these.
_FEWEST_SAMPLES, _MOST_SAMPLES = 256, 4096


@dataclass(frozen=True)
class Wanted:
    """White noise, or random tokens, and what the model gives for it.

    Attributes:
        x: (batch, samples, d_input) float32, or (batch, samples) tokens.
        y: of the model in double precision, (batch, samples, d_output) after each sample; over
            whole sequences its answers.
    """

    x: NDArray[Any]
    y: NDArray[np.float64]

    @property
    def samples(self) -> NDArray[np.float32]:
        """(batch, samples, d_input), tokens as floats."""
        return self.x if self.x.ndim == 3 else self.x[..., None].astype(np.float32)

    @property
    def largest(self) -> float:
        """The largest output."""
        return float(np.abs(self.y).max())


def wanted_of(model: SequenceModel, over_sequences: bool = False) -> Wanted:
    """Of one sample after the other, or of whole sequences."""
    config, rng = model.config, np.random.default_rng(0)
    shape = (_BATCH, config.length or _samples_to_check(model, over_sequences))
    if config.encoder == "embedding":
        x: NDArray[Any] = rng.integers(0, config.d_input, shape)
        into = torch.from_numpy(x)
    else:
        x = rng.standard_normal((*shape, config.d_input)).astype(np.float32)
        into = torch.from_numpy(x).double()
        into = into.mT if config.channels_first else into
    double = copy.deepcopy(model).double()
    with torch.no_grad():
        y = double.answer(into) if over_sequences else double.running(into)
    return Wanted(x, (y.mT if config.channels_first else y).numpy())


def _samples_to_check(model: SequenceModel, over_sequences: bool) -> int:
    """As many as the slowest pole remembers, within bounds; past a cut of kernels if that holds."""
    slowest = max(
        block.systems.log_radius / period
        for block, period in zip(model.blocks, model.config.periods, strict=False)
    )
    slowest = max(-1.0, slowest)
    samples = int(np.clip(-3 / slowest, _FEWEST_SAMPLES, _MOST_SAMPLES))
    config, stride = model.config, model.config.stride
    # Blocks that join samples want whole numbers of them.
    exact, windows = config.exact_samples, max(-(-samples // stride), 4 if stride > 1 else 1)
    if exact is None:
        return windows * stride
    if over_sequences:
        return max(1, min(-(-2 * exact // stride), _MOST_SAMPLES // stride)) * stride
    return min(windows, exact // stride) * stride or config.first_answer + 1
