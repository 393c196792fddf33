"""Samples on which what was written is compared with the model that it came from."""

from __future__ import annotations

import copy
from dataclasses import dataclass

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
    """White noise, or random tokens, and what the model gives after each sample.

    Attributes:
        x: (batch, samples, d_input) float32; tokens as floats.
        y: (batch, samples, d_output), of the model in double precision.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float64]

    @property
    def largest(self) -> float:
        """The largest output."""
        return float(np.abs(self.y).max())


def wanted_of_stream(model: SequenceModel) -> Wanted:
    """For a model that streams, over as many samples as its slowest pole remembers."""
    config = model.config
    rng = np.random.default_rng(0)
    slowest = max(block.systems.modes().log_pole.real.max(initial=-1) for block in model.blocks)
    samples = int(np.clip(-3 / slowest, _FEWEST_SAMPLES, _MOST_SAMPLES))
    samples = config.length or min(samples, config.exact_samples or samples)
    if config.encoder == "embedding":
        tokens = rng.integers(0, config.d_input, (_BATCH, samples))
        x, into = tokens[..., None].astype(np.float32), torch.from_numpy(tokens)
    else:
        x = rng.standard_normal((_BATCH, samples, config.d_input)).astype(np.float32)
        into = torch.from_numpy(x).double()
        into = into.mT if config.channels_first else into
    with torch.no_grad():
        y = copy.deepcopy(model).double().running(into)
    return Wanted(x, (y.mT if config.channels_first else y).numpy())
