"""What reaches each layer on calibration data, and what the model's output makes of its answers.

No labels are used. Sequences of different lengths are moved to end together, with zeros before
their start: systems begin at rest, so that nothing changes, and no sample behind a sequence's end
counts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from s4edge.arrays import Float, Int
from s4edge.errors import S4EdgeError
from s4edge.model.block import reversed_input
from s4edge.model.history import CalibratedOn
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.base import Systems

# Floats of all sequences at one place of the model: bounds the memory.
MOST_FLOATS = 2**27
# Of the gradients at all layers together.
_GRADIENT_FLOATS = 2**28
# Of one batch at one place.
_BATCH_FLOATS = 4_000_000
_SEED = 0


@dataclass(frozen=True)
class Calibration:
    """Sequences that a model is calibrated on.

    Attributes:
        x: as `SequenceModel.forward` takes it.
        lengths: (sequences,) samples that count, or None where all do.
        source: where they came from, for people.
        given: sequences that there were; ``x`` is an even choice of them if they were too many.
        channels_first: whether time is the last axis of ``x``.
    """

    x: Tensor
    lengths: Tensor | None
    source: str
    given: int
    channels_first: bool = False

    @property
    def length(self) -> int:
        """Samples of a sequence, padding included."""
        return int(self.x.shape[2 if self.channels_first else 1])

    def told(self) -> CalibratedOn:
        """What a model's history tells of them."""
        return CalibratedOn(
            source=self.source, sequences=len(self), given=self.given, length=self.length
        )

    def __len__(self) -> int:
        return len(self.x)

    def part(self, rows: Int | slice) -> Calibration:
        """Some of the sequences."""
        chosen = rows if isinstance(rows, slice) else torch.from_numpy(rows)
        lengths = None if self.lengths is None else self.lengths[chosen]
        return Calibration(self.x[chosen], lengths, self.source, self.given, self.channels_first)

    def output_of(self, model: SequenceModel) -> Tensor:
        """A model's output on all sequences at once, padding zeroed."""
        return padding_zeroed(model, model.answer(self.x, self.lengths), self.lengths)

    def batches(self, model: SequenceModel) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
        """Rows, ``x`` and ``lengths`` of consecutive parts that fit the memory."""
        size = max(1, _BATCH_FLOATS // _floats(model, self.x))
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield rows, self.x[rows], None if self.lengths is None else self.lengths[rows]


def select(model: SequenceModel, x: Tensor, lengths: Tensor | None, source: str) -> Calibration:
    """As many sequences, evenly chosen, as the memory that is meant for them holds.

    Raises:
        S4EdgeError: the model does not take such sequences.
    """
    if x.is_floating_point():
        x = x.to(model.dtype)
    time = 2 if model.config.channels_first else 1
    if lengths is not None and x.ndim > time:
        # What is behind the end of all sequences is left out, and padding is 0: in single precision
        # large values would be felt in the samples that count.
        x = x.narrow(time, 0, min(int(lengths.max()), x.shape[time]))
        padding = torch.arange(x.shape[time]) >= lengths[:, None]
        if time == 2:
            padding = padding[:, None]
        x = x.masked_fill(padding if x.ndim == padding.ndim else padding[..., None], 0)
        lengths = lengths if bool(padding.any()) else None
    try:
        model.checked(x, lengths)
    except S4EdgeError as error:
        raise S4EdgeError(f"{source} does not fit: {error}") from error
    most = max(16, MOST_FLOATS // _floats(model, x))
    everything = Calibration(x, lengths, source, len(x), model.config.channels_first)
    return everything.part(evenly(len(x), most)) if len(x) > most else everything


def evenly(count: int, most: int) -> Int:
    """Indices of at most so many of ``count`` sequences."""
    chosen: Int = np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)
    return chosen


def _floats(model: SequenceModel, x: Tensor) -> int:
    """Of one sequence at the model's widest place."""
    blocks = model.config.blocks
    widths = [each.channels for block in blocks for each in block.all_systems]
    return int(x.shape[2 if model.config.channels_first else 1]) * max(widths)


def working_copy(model: SequenceModel) -> SequenceModel:
    """A copy to run often: convolutions in single precision, no gradients of parameters."""
    copied = copy.deepcopy(model).requires_grad_(False).eval()
    for module in copied.modules():
        if isinstance(module, Systems):
            module.freeze_(torch.float32)
    return copied


def output_on(model: SequenceModel, calibration: Calibration) -> Tensor:
    """(sequences, ...) a model's output, padding zeroed."""
    with torch.no_grad():
        parts = [
            calibration.part(rows).output_of(model) for rows, _, _ in calibration.batches(model)
        ]
    return torch.cat(parts)


class Passage:
    """Sequences on their way through a model, block by block.

    Args:
        model: whose blocks ahead may be replaced on the way.
        calibration: the sequences.
    """

    def __init__(self, model: SequenceModel, calibration: Calibration) -> None:
        self.model, self.calibration, self.at = model, calibration, 0
        parts = [model.encode(x, lengths) for _, x, lengths in calibration.batches(model)]
        self.hidden = torch.cat(parts)

    def inputs(self, backward: bool = False) -> Tensor:
        """(features, sequences, length) what the systems of the next block read."""
        block = self.model.blocks[self.at]
        u = self._batched(block.before)
        lengths = lengths_entering(self.model, self.calibration.lengths)[self.at]
        return _ends_together(reversed_input(u) if backward else u, lengths)

    def advance(self) -> None:
        """Through the next block."""
        self.hidden = self._batched(self.model.blocks[self.at])
        self.at += 1

    def output(self) -> Tensor:
        """What the model makes of them from here on, padding zeroed.

        Returns:
            (sequences, d_output) with pooling, else (sequences, length, d_output).
        """
        model, lengths = self.model, self.calibration.lengths
        outputs = []
        for rows, _, _ in self.calibration.batches(model):
            h, ends = self.hidden[rows], None if lengths is None else lengths[rows]
            for block in list(model.blocks)[self.at :]:
                h = block(h)
            y = model.decode(model.norm(h), self.calibration.length, ends)
            outputs.append(padding_zeroed(model, y, ends))
        return torch.cat(outputs)

    def _batched(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        batches = self.calibration.batches(self.model)
        return torch.cat([function(self.hidden[rows]) for rows, _, _ in batches])


def lengths_entering(model: SequenceModel, lengths: Tensor | None) -> list[Tensor | None]:
    """`ModelConfig.samples_entering` of (sequences,) lengths, where there are any."""
    if lengths is None:
        return [None] * (len(model.blocks) + 1)
    return [*model.config.samples_entering(lengths)]


def padding_zeroed(model: SequenceModel, y: Tensor, lengths: Tensor | None) -> Tensor:
    """An output with zeros for samples that do not count."""
    if lengths is None or not model.config.answers_each_sample:
        return y
    counted = torch.arange(y.shape[1]) < lengths[:, None]
    return y * counted[..., None]


def _ends_together(u: Tensor, lengths: Tensor | None) -> Tensor:
    """(sequences, length, features) to (features, sequences, length), zeros before the start."""
    out = u.permute(2, 0, 1).contiguous()
    if lengths is not None:
        length = u.shape[1]
        for row, end in enumerate(lengths.tolist()):
            out[:, row] = torch.cat([out.new_zeros(len(out), length - end), out[:, row, :end]], 1)
    return out


def autocorrelation(u: Tensor) -> Float:
    """(length,) ``sum_t u_t u_{t+tau}`` of each sequence, summed over sequences, float64.

    Args:
        u: (sequences, length).
    """
    length = u.shape[1]
    power = torch.fft.rfft(u.double(), n=2 * length).abs().square().sum(dim=0)
    out: Float = torch.fft.irfft(power, n=2 * length)[:length].numpy()
    return out


@dataclass(frozen=True)
class Gradients:
    """Of random projections of the model's output, by what the systems of a layer answer.

    With a projection on random signs, the mean square of the projected error is the mean square
    of the output's error.

    Attributes:
        of: by block, (channels, rows, length) float32, ends together.
        rows: (rows,) the sequences of the calibration that they are of.
    """

    of: list[Tensor]
    rows: Int


def output_gradients(
    model: SequenceModel,
    calibration: Calibration,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Gradients:
    """One backward pass per batch, over as many sequences as memory is meant for.

    Args:
        model: a `working_copy`.
        calibration: the sequences.
        progress: called with the fraction done.
    """
    width = sum(block.systems.channels for block in model.config.blocks)
    length = calibration.length
    rows = evenly(len(calibration), max(16, _GRADIENT_FLOATS // (width * length)))
    part = calibration.part(rows)
    generator = torch.Generator().manual_seed(_SEED)
    parts: list[list[Tensor]] = [[] for _ in model.blocks]
    for batch, x, lengths in part.batches(model):
        h = model.encode(x, lengths).requires_grad_()
        answers = []
        entering = lengths_entering(model, lengths)
        for block in model.blocks:
            u = block.before(h)
            y = block.respond(u)
            answers.append(y)
            h = block.after(h, u, y)
        decoded = model.decode(model.norm(h), calibration.length, lengths)
        out = padding_zeroed(model, decoded, lengths)
        signs = torch.randint(0, 2, out.shape, generator=generator).to(out.dtype) * 2 - 1
        gradients = torch.autograd.grad((signs * out).sum(), answers)
        for each, gradient, ends in zip(parts, gradients, entering, strict=False):
            each.append(_ends_together(gradient.float(), ends))
        progress(min(batch.stop, len(rows)) / len(rows))
    return Gradients([torch.cat(each, dim=1) for each in parts], rows)
