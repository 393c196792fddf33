"""The step of compression that makes the residual stream narrower."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from s4edge.compression.counts import is_count
from s4edge.compression.dense.places import places_of
from s4edge.compression.dense.seen import Pair, Sums, backward
from s4edge.compression.result import Compressed
from s4edge.compression.samples import FITTED, GRADIENTS, MEASURED, some_sequences
from s4edge.compression.states.calibration import Calibration, output_on, working_copy
from s4edge.compression.states.observed import output_energy, relative_error, same_class
from s4edge.compression.width.choosing import Chosen, Reader, choose
from s4edge.compression.width.fitting import decoded, fitted
from s4edge.compression.width.narrowing import check_can_narrow, first_dense, inputs_of
from s4edge.errors import S4EdgeError
from s4edge.model.costs import costs_of, multiply_adds
from s4edge.model.history import NarrowedLayer, OutputError, WidthReduction
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.stages import numbers
from s4edge.progress import Progress, silent


@dataclass(frozen=True)
class ReduceWidth:
    """What is asked of the residual stream; one of the two.

    Attributes:
        width: features that stay.
        fraction: of them, rounded to the nearest number from 1 up.
    """

    width: int | None = None
    fraction: float | None = None

    def check(self, model: SequenceModel) -> None:
        """Raise S4EdgeError unless one of them is given, in its range, and suits the model."""
        if (self.width is None) == (self.fraction is None):
            raise S4EdgeError("give either a width or a fraction of it")
        if self.fraction is not None and not 0 < self.fraction < 1:
            raise S4EdgeError(
                f"the fraction of the width is between 0 and 1, got {self.fraction:g}"
            )
        if self.width is not None and not is_count(self.width):
            raise S4EdgeError(f"a width is a whole number from 1 up, got {self.width}")
        if self.asked(model) >= model.config.d_model:
            raise S4EdgeError(
                f"the width {self.asked(model)} takes no feature away: the model has "
                f"{model.config.d_model}; choose a smaller one"
            )
        check_can_narrow(model)

    def asked(self, model: SequenceModel) -> int:
        """Features that are to stay."""
        if self.fraction is not None:
            return max(1, round(self.fraction * model.config.d_model))
        assert self.width is not None
        return int(self.width)


def reduce_width(
    model: SequenceModel,
    step: ReduceWidth,
    calibration: Calibration | None = None,
    progress: Progress = silent,
) -> Compressed:
    """Take features of the residual stream away from a copy of a model, and what served only them.

    Which ones, the layers that read them say (`s4edge.compression.width.choosing`); what is left is
    refitted to what the original computes. The copy's ``provenance.history`` tells the errors.

    Args:
        model: left as it is.
        step: how many stay.
        calibration: sequences, without labels; needed.
        progress: called with the fraction done.

    Raises:
        S4EdgeError: ``step`` does not suit the model, there is no calibration, or the model's
            output there is zero, NaN or infinite.
    """
    step.check(model)
    if calibration is None:
        raise S4EdgeError("features are chosen by what layers read: add --calibrate DATA")
    working = working_copy(model)
    data = some_sequences(model, calibration, MEASURED)
    output = output_on(working, data)
    energy = output_energy(output, data)
    progress(0.1)
    few = some_sequences(model, calibration, GRADIENTS)
    chosen = _chosen(working, few, step.asked(model))
    progress(0.4)
    sample = some_sequences(model, calibration, FITTED)
    small, errors = fitted(model, chosen.features, sample, lambda done: progress(0.4 + 0.5 * done))
    y = output_on(working_copy(small), data)
    error = OutputError(
        predicted=float(np.sqrt(max(chosen.loss, 0.0) / energy)),
        measured=relative_error(y, output),
        same_class=same_class(output, y),
    )
    costs = zip(costs_of(model)[1:-1], costs_of(small)[1:-1], strict=True)
    layers = [
        NarrowedLayer(
            name=before.name,
            channels_before=old.systems.config.channels,
            channels_after=new.systems.config.channels,
            multiply_adds_before=round(before.multiply_adds),
            multiply_adds_after=round(after.multiply_adds),
            error=lost,
        )
        for (before, after), old, new, lost in zip(
            costs, model.blocks, small.blocks, errors, strict=True
        )
    ]
    small.provenance.history.append(
        WidthReduction(
            width_before=model.config.d_model,
            width=small.config.d_model,
            features=tuple(chosen.features.tolist()),
            multiply_adds_before=multiply_adds(model),
            multiply_adds_after=multiply_adds(small),
            calibration=data.told(),
            output_error=error,
            layers=tuple(layers),
        )
    )
    progress(1)
    return Compressed(small)


def _chosen(model: SequenceModel, calibration: Calibration, width: int) -> Chosen:
    """The features that stay, from what reads them in a `working_copy`."""
    places = [
        each for each in places_of(model)
        if each.name in ("gate.input", "highway.input", "highway.output")
        or each.name == first_dense(model.blocks[each.block].config)
    ]  # fmt: skip
    sums = {each: (Sums(), Sums()) for each in places}
    for place, (x, _, gradient) in backward(model, places, calibration):
        inputs, gradients = sums[place]
        inputs.add(x)
        gradients.add(gradient)
    features = np.arange(model.config.d_model)
    readers = []
    for place, (inputs, gradients) in sums.items():
        block = model.blocks[place.block]
        by_channel = place.name == first_dense(block.config)
        seen = gradients.moments()
        second = seen.covariance + np.outer(seen.mean, seen.mean)
        readers.append(
            Reader(
                place.affine(model).weight,
                inputs.moments().covariance,
                # Of all samples of a sequence.
                second * gradients.count / len(calibration),
                inputs_of(block.systems) if by_channel else features,
            )
        )
    with torch.no_grad():
        pair = Pair(model, model, calibration)
        pair.reach(len(model.blocks))
        moments, count = decoded(pair)
    weight = numbers(model.decoder.get_parameter("weight"))
    answers = np.eye(len(weight)) * count / len(calibration)
    readers.append(Reader(weight, moments.covariance, answers, features))
    return choose(readers, len(features), width)
