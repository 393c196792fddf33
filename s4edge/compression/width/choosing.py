"""Which features of the stream a model can do without: second order, from what reads them.

All that a feature does passes through dense layers that read it or the channels made of it, and
through the decoder. With inputs of covariance ``C``, errors of answers that count by ``G``, and the
other columns refitted, a layer ``W`` without the columns ``S`` loses at least
``tr(G W_S (P_SS)^-1 W_S')`` with ``P = C^-1``. Features go one by one, each time the one whose loss
over all layers is least, and its share is moved to those that are left.

Sources: the optimal brain surgeon, B. Hassibi and D. Stork (1993), by columns as E. Frantar et al.,
"SPDY" and "OBC" (2022); second moments of inputs and gradients as the curvature, J. Martens and
R. Grosse, "K-FAC" (2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from s4edge.arrays import Float, Int

# Of the inputs' mean variance, as if white noise of that share were added.
_NOISE = 1e-4


@dataclass(frozen=True)
class Reader:
    """A dense layer that reads what is made of features.

    Attributes:
        weight: (rows, columns).
        covariance: (columns, columns) of its inputs.
        sensitivity: (rows, rows) by which errors of its answers count.
        feature: (columns,) the feature that each column depends on.
    """

    weight: Float
    covariance: Float
    sensitivity: Float
    feature: Int


@dataclass(frozen=True)
class Chosen:
    """Features that stay.

    Attributes:
        features: ascending.
        loss: what all readers lose together.
    """

    features: Int
    loss: float


def choose(readers: Sequence[Reader], features: int, width: int) -> Chosen:
    """The features that stay of so many.

    Args:
        readers: of them.
        features: that there are.
        width: how many stay.
    """
    states = [_State(each, features) for each in readers]
    alive, total = np.ones(features, bool), 0.0
    for _ in range(features - width):
        loss = np.where(alive, sum(each.losses() for each in states), np.inf)
        gone = int(np.argmin(loss))
        total += float(loss[gone])
        alive[gone] = False
        for each in states:
            each.remove(gone)
    return Chosen(np.flatnonzero(alive), total)


class _State:
    """A reader on the way."""

    def __init__(self, reader: Reader, features: int) -> None:
        self.weight, self.sensitivity = reader.weight.copy(), reader.sensitivity
        n = len(reader.covariance)
        noise = _NOISE * max(float(np.trace(reader.covariance)) / n, 1e-300)
        self.precision = np.linalg.inv(reader.covariance + noise * np.eye(n))
        self.columns = [np.flatnonzero(reader.feature == each) for each in range(features)]
        self.gone = np.zeros(features, bool)

    def losses(self) -> Float:
        """(features,) of those that are left; 0 where it reads nothing of one."""
        gram = self.weight.T @ self.sensitivity @ self.weight
        out = np.zeros(len(self.columns))
        for feature, own in enumerate(self.columns):
            if len(own) and not self.gone[feature]:
                pick = np.ix_(own, own)
                out[feature] = np.trace(np.linalg.solve(self.precision[pick], gram[pick]))
        return out

    def remove(self, feature: int) -> None:
        """A feature's columns, their share moved to the others."""
        own = self.columns[feature]
        self.gone[feature] = True
        if not len(own):
            return
        moved = np.linalg.solve(self.precision[np.ix_(own, own)], self.precision[own])
        self.weight = self.weight - self.weight[:, own] @ moved
        self.precision = self.precision - self.precision[:, own] @ moved
        # To rounding they are 0 already.
        self.weight[:, own] = 0
        self.precision[own], self.precision[:, own] = 0, 0
