"""How good outputs are: accuracy for labels, mean squared error for targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s4edge.errors import S4EdgeError
from s4edge.training.data import Data


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


def score(outputs: NDArray[Any], data: Data) -> Score:
    """Compare outputs with ``data.y``: class scores with integer labels, else values with targets.

    Args:
        outputs: (samples, d_output), or (samples, length, d_output) from a model without pooling.
        data: what they are outputs for.

    Raises:
        S4EdgeError: there is no ``y``, its shape does not fit, or a label is no class.
    """
    y = data.y
    if y is None:
        raise S4EdgeError(f"{data.source} holds no 'y': there is nothing to compare with")
    labels = np.issubdtype(y.dtype, np.integer)
    expected = outputs.shape[:-1] if labels else outputs.shape
    if y.shape != expected:
        raise S4EdgeError(
            f"{data.source}: y has shape {y.shape}, the model's outputs ask for {expected}"
        )
    if labels:
        if y.min() < 0 or y.max() >= outputs.shape[-1]:
            raise S4EdgeError(
                f"{data.source}: labels run from {y.min()} to {y.max()}, the model has "
                f"{outputs.shape[-1]} classes"
            )
        right = (outputs.argmax(axis=-1) == y).astype(np.float64)
    else:
        right = np.square(outputs.astype(np.float64) - y).mean(axis=-1)
    if right.ndim == 2 and data.lengths is not None:
        counted = np.arange(right.shape[1]) < data.lengths[:, None]
        value = float(right[counted].mean())
    else:
        value = float(right.mean())
    return Score("accuracy" if labels else "mse", value, len(data))
