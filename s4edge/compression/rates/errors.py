"""What a model loses to strides, on calibration data: predicted to first order, and measured.

A model with strides is the one without, with signals replaced by their averages over windows, held:
what leaves a layer behind which there is a stride, what the systems of all later layers answer, and
where answers are held the output itself. To first order the output changes by the sum of these
changes of the signals as they are, each times the output's gradient there, which goes through all
averages behind it. Where layers are linear that is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from s4edge.arrays import Float
from s4edge.compression.rates.slowing import Strides
from s4edge.compression.states.calibration import (
    Calibration,
    Passage,
    lengths_entering,
    output_on,
    padding_zeroed,
    working_copy,
)
from s4edge.compression.states.observed import relative_error
from s4edge.model.joining import hold, join
from s4edge.model.sequence_model import SequenceModel

_SEED = 0


def measured_error(model: SequenceModel, calibration: Calibration, aim: Tensor) -> float:
    """Relative error of a model's output, ``|y - aim| / |aim|``."""
    return relative_error(output_on(working_copy(model), calibration), aim)


def layer_errors(
    model: SequenceModel, small: SequenceModel, strides: Strides, calibration: Calibration
) -> list[float]:
    """Relative error of what leaves each layer, against what leaves the model's, averaged.

    Args:
        model: without the strides.
        small: with them.
        strides: of ``small``, beside those of ``model``.
        calibration: sequences.
    """
    found = []
    with torch.no_grad():
        there, here = (Passage(working_copy(each), calibration) for each in (model, small))
        ends = lengths_entering(small, calibration.lengths)
        for period, lengths in zip(strides.periods[1:], ends[1:], strict=True):
            there.advance()
            here.advance()
            aim = join("mean", period, there.hidden).double()
            error = here.hidden[:, : aim.shape[1]].double() - aim[:, : here.hidden.shape[1]]
            counted = torch.ones(error.shape[:2], dtype=torch.bool)
            if lengths is not None:
                counted = torch.arange(error.shape[1]) < lengths[:, None]
            size = aim[:, : error.shape[1]][counted].norm()
            found.append(float(error[counted].norm() / size) if size else 0.0)
    return found


def predicted_errors(
    model: SequenceModel, choices: Sequence[Strides], calibration: Calibration, energy: float
) -> list[float]:
    """Relative error of the output with each of several choices of strides, to first order.

    Args:
        model: without them.
        choices: of strides.
        calibration: sequences.
        energy: mean square of the output, per sequence.
    """
    working = working_copy(model)
    generator = torch.Generator().manual_seed(_SEED)
    total = np.zeros(len(choices))
    for _, x, lengths in calibration.batches(working):
        signs: Tensor | None = None
        for index, strides in enumerate(choices):
            output, nodes = _averaged(working, x, lengths, calibration.length, strides)
            if signs is None:
                signs = torch.randint(0, 2, output.shape, generator=generator) * 2.0 - 1
            if not nodes:
                continue
            gradients = torch.autograd.grad((signs * output).sum(), [at for at, _ in nodes])
            change = torch.zeros(len(x), dtype=torch.float64)
            for gradient, (_, difference) in zip(gradients, nodes, strict=True):
                change += (gradient.double() * difference).flatten(1).sum(1)
            total[index] += float(change.square().sum())
    relative: Float = np.sqrt(total / len(calibration) / energy)
    return relative.tolist()


_Node = tuple[Tensor, Tensor]
"""A signal as it is, whose gradient comes from behind its average; and what averaging changes."""


def _averaged(
    model: SequenceModel, x: Tensor, lengths: Tensor | None, samples: int, strides: Strides
) -> tuple[Tensor, list[_Node]]:
    """The model's output as it is, padding zeroed, and the signals that strides average."""
    nodes: list[_Node] = []

    def through(z: Tensor, average: Callable[[Tensor], Tensor]) -> Tensor:
        averaged = average(z)
        difference = (averaged - z).detach()
        z = averaged - difference
        nodes.append((z, difference))
        return z

    def windows(z: Tensor, window: int) -> Tensor:
        return z if window == 1 else through(z, lambda z: _held_average(z, window))

    periods = strides.periods
    h = windows(model.encode(x, lengths).requires_grad_(), periods[0])
    for block, stride, period, after in zip(
        model.blocks, strides.layers, periods, periods[1:], strict=False
    ):
        u = block.before(h)
        h = block.after(h, u, windows(block.respond(u), period))
        if stride > 1:
            h = windows(h, after)
    y = model.decode(model.norm(h), samples, lengths)
    if model.config.answers_each_sample and strides.total > 1:
        y = through(y, lambda y: _late(model, y, strides))
    return padding_zeroed(model, y, lengths), nodes


def _held_average(value: Tensor, window: int) -> Tensor:
    """(batch, length, features): the mean of each whole window, in each of its samples."""
    means = join("mean", window, value).repeat_interleave(window, dim=1)
    return torch.cat([means, value[:, means.shape[1] :]], dim=1)


def _late(model: SequenceModel, y: Tensor, strides: Strides) -> Tensor:
    """An output to each sample, averaged and held as a model with strides gives it."""
    out = y.mT if model.config.channels_first else y
    window = model.config.stride * strides.total
    out = hold(join("mean", window, out), out.shape[1], window, window - 1)
    return out.mT if model.config.channels_first else out
