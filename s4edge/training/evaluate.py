"""Outputs and scores of a torch model over data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from s4edge.model.sequence_model import SequenceModel
from s4edge.training.data import Data
from s4edge.training.metrics import Score, score

# Floats of one activation that a batch may take: bounds the memory.
_BATCH_FLOATS = 4_000_000


def predict(
    model: SequenceModel, data: Data, progress: Callable[[float], None] = lambda fraction: None
) -> NDArray[np.float32]:
    """Outputs for all sequences, batch by batch, as a convolution.

    Returns:
        (samples, d_output) with pooling, else (samples, length, d_output).

    Raises:
        S4EdgeError: the data's shape is not what the model takes.
    """
    size = max(1, _BATCH_FLOATS // (data.x.shape[1] * model.config.d_model))
    outputs: list[NDArray[np.float32]] = []
    dtype = next(model.parameters()).dtype
    with torch.inference_mode():
        for batch in data.batches(size):
            lengths = None if batch.lengths is None else torch.from_numpy(batch.lengths)
            outputs.append(model(torch.from_numpy(batch.x).to(dtype), lengths).float().numpy())
            progress(sum(map(len, outputs)) / len(data))
    return np.concatenate(outputs)


def evaluate_model(
    model: SequenceModel, data: Data, progress: Callable[[float], None] = lambda fraction: None
) -> Score:
    """Accuracy or mean squared error of a model. Raises S4EdgeError as `predict` and `score` do."""
    return score(predict(model, data, progress), data)
