"""Dense layers made products of two matrices, layer by layer, along calibration data."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from s4edge.compression.dense.factors import factored
from s4edge.compression.dense.places import Place
from s4edge.compression.dense.seen import Pair, Predicted
from s4edge.compression.states.calibration import Calibration, output_on, working_copy
from s4edge.compression.states.observed import relative_error
from s4edge.model.sequence_model import SequenceModel

Ranks = dict[Place, int]
"""Of the layers that are taken."""


@dataclass(frozen=True)
class Fitted:
    """A model with products.

    Attributes:
        model: in the precision of the one that it was made of.
        working: a `working_copy` of it.
        layer_errors: by place, measured: relative, of what leaves the layer.
        so_far: by place, measured: relative, of the model's output with that layer and all before
            it as products.
    """

    model: SequenceModel
    working: SequenceModel
    layer_errors: dict[Place, float]
    so_far: dict[Place, float]


def fitted(
    model: SequenceModel,
    ranks: Ranks,
    predicted: Mapping[Place, Predicted],
    sample: Calibration,
    aim: Tensor | None = None,
) -> Fitted:
    """Each layer fitted to what the original answers, on what the layers before it deliver now.

    Args:
        model: left as it is.
        ranks: of those layers that are taken.
        predicted: of all layers that could be, in the model's order.
        sample: sequences.
        aim: the model's output on them, to tell errors; without it none are.
    """
    small, original, working = copy.deepcopy(model), working_copy(model), working_copy(model)
    layer_errors, so_far = {}, {}
    with torch.no_grad():
        pair = Pair(original, working, sample)
        for place, known in predicted.items():
            pair.reach(place.block)
            if place in ranks:
                moments, layer = pair.moments(place), place.affine(model)
                product = factored(layer, moments, ranks[place], known.sensitivity)
                for each in (small, working):
                    place.put(each, product)
            if aim is not None:
                layer_errors[place] = pair.error(place)
                so_far[place] = relative_error(output_on(working, sample), aim)
    return Fitted(small, working, layer_errors, so_far)
