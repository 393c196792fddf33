"""Outputs and scores of a torch model over data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from s4edge.arrays import Single
from s4edge.data.dataset import Data
from s4edge.data.metrics import Score, score
from s4edge.errors import S4EdgeError
from s4edge.model.sequence_model import SequenceModel

# Floats of one activation that a batch may take: bounds the memory.
_BATCH_FLOATS = 4_000_000


def predict(
    model: SequenceModel, data: Data, progress: Callable[[float], None] = lambda fraction: None
) -> Single:
    """Outputs for all sequences, batch by batch, as a convolution.

    Returns:
        (samples, d_output) with pooling, else (samples, length, d_output).

    Raises:
        S4EdgeError: the data's shape is not what the model takes.
    """
    if model.head is not None:
        raise S4EdgeError(
            "the model compares two sequences, and data has one for each answer: in Python, "
            "model(x) compares the first half of x with the second"
        )
    if data.lengths is not None and not model.config.takes_padding:
        return _predict_by_length(model, data, progress)
    config = model.config
    time = 2 if config.channels_first else 1
    size = max(1, _BATCH_FLOATS // (data.x.shape[min(time, data.x.ndim - 1)] * config.d_model))
    outputs: list[Single] = []
    dtype = model.dtype
    with torch.inference_mode():
        for batch in data.batches(size):
            x = torch.from_numpy(batch.x)
            lengths = None if batch.lengths is None else torch.from_numpy(batch.lengths)
            y = model(x.to(dtype) if x.is_floating_point() else x, lengths)
            outputs.append(y.float().numpy())
            progress(sum(map(len, outputs)) / len(data))
    return np.concatenate(outputs)


def _predict_by_length(
    model: SequenceModel, data: Data, progress: Callable[[float], None]
) -> Single:
    """Sequences of one length together: a model that looks ahead must not see padding."""
    assert data.lengths is not None
    found = np.unique(data.lengths)
    if len(found) > 1 and model.config.answers_each_sample:
        raise S4EdgeError(
            f"{data.source}: the model looks ahead and gives an output per sample; its sequences "
            "must be of one length"
        )
    outputs: Single | None = None
    for done, length in enumerate(found):
        rows = data.lengths == length
        y = predict(model, Data(data.x[rows, :length], None, None, data.source))
        if outputs is None:
            outputs = np.zeros((len(data), *y.shape[1:]), np.float32)
        outputs[rows] = y
        progress((done + 1) / len(found))
    assert outputs is not None
    return outputs


def evaluate_model(
    model: SequenceModel, data: Data, progress: Callable[[float], None] = lambda fraction: None
) -> Score:
    """Accuracy or mean squared error of a model. Raises S4EdgeError as `predict` and `score` do."""
    return score(predict(model, data, progress), data)
