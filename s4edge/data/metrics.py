"""How good outputs are: accuracy for labels, mean squared error for targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s4edge.data.dataset import Data
from s4edge.errors import S4EdgeError


@dataclass(frozen=True)
class Score:
    """A metric over data.

    Attributes:
        metric: "accuracy" (a fraction) or "mse".
        value: of it.
        samples: sequences that it is over.
    """

    metric: str
    value: float
    samples: int


def require_targets(data: Data) -> NDArray[Any]:
    """``data.y``; to be asked for before a model is run for minutes.

    Raises:
        S4EdgeError: there is none.
    """
    if data.y is None:
        raise S4EdgeError(f"{data.source} holds no 'y': there is nothing to compare with")
    return data.y


def score(outputs: NDArray[Any], data: Data) -> Score:
    """Compare outputs with ``data.y``: class scores with integer labels, else values with targets.

    Args:
        outputs: (samples, d_output), or (samples, length, d_output) from a model without pooling.
        data: what they are outputs for.

    Raises:
        S4EdgeError: there is no ``y``, its shape does not fit, a label is no class, or a number is
            NaN or infinite.
    """
    y = require_targets(data)
    labels = np.issubdtype(y.dtype, np.integer)
    expected = outputs.shape[:-1] if labels else outputs.shape
    if y.shape != expected:
        hint = "" if labels or y.shape != outputs.shape[:-1] else " (labels are whole numbers)"
        raise S4EdgeError(
            f"{data.source}: y has shape {y.shape}, the model's outputs ask for {expected}{hint}"
        )
    if outputs.ndim == 3 and data.lengths is not None:
        # What stands after a sequence's end, whatever it is, does not count.
        counted = np.arange(outputs.shape[1]) < data.lengths[:, None]
        outputs, y = outputs[counted], y[counted]
    if not np.isfinite(outputs).all():
        raise S4EdgeError(f"the model's outputs on {data.source} are NaN or infinite")
    if not np.isfinite(y).all():
        raise S4EdgeError(f"{data.source}: y holds NaN or infinite values")
    if not labels:
        return Score("mse", float(np.square(outputs.astype(np.float64) - y).mean()), len(data))
    if y.min() < 0 or y.max() >= outputs.shape[-1]:
        raise S4EdgeError(
            f"{data.source}: labels run from {y.min()} to {y.max()}, the model has "
            f"{outputs.shape[-1]} classes"
        )
    return Score("accuracy", float((outputs.argmax(axis=-1) == y).mean()), len(data))
