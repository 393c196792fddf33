"""What reaches each layer on calibration data, and what the model's output makes of its answers.

No labels are used. Sequences of different lengths are moved to end together, with zeros before
their start: systems begin at rest, so that nothing changes, and no sample behind a sequence's end
counts.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import dataclasses
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from s4edge.arrays import Float, Int
from s4edge.compression.states.kernel_error import power_of, transform
from s4edge.errors import S4EdgeError
from s4edge.model.block import reversed_input
from s4edge.model.history import CalibratedOn
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.base import Systems
from s4edge.model.time_last import norm
from s4edge.systems.parallel import map_batches

# Floats of one block of sequences at one place of the model.
BLOCK_FLOATS = 2**18
_SEED = 0

Result = TypeVar("Result")


@dataclass(frozen=True)
class Calibration:
    """Sequences that a model is calibrated on.

    Attributes:
        x: as `SequenceModel.forward` takes it.
        lengths: (sequences,) samples that count, or None where all do.
        source: where they came from, for people.
        given: sequences that there were; ``x`` may be some of them.
        channels_first: whether time is the last axis of ``x``.
        memory: bytes that work on them may take beside them; None for half of what is free.
    """

    x: Tensor
    lengths: Tensor | None
    source: str
    given: int
    channels_first: bool = False
    memory: int | None = None

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
        return dataclasses.replace(self, x=self.x[chosen], lengths=lengths)

    def with_more(self, others: Calibration) -> Calibration:
        """Others of the same behind these."""
        lengths = None
        if self.lengths is not None and others.lengths is not None:
            lengths = torch.cat([self.lengths, others.lengths])
        return dataclasses.replace(self, x=torch.cat([self.x, others.x]), lengths=lengths)

    def output_of(self, model: SequenceModel) -> Tensor:
        """A model's output on all sequences at once, padding zeroed."""
        return padding_zeroed(model, model.answer(self.x, self.lengths), self.lengths)

    def in_blocks(
        self,
        model: SequenceModel,
        work: Callable[[slice, Calibration], Result],
    ) -> list[Result]:
        """``work`` on rows and their sequences, block by block, one thread for each core.

        A block is worked on by one thread from its start to its end: threads that met within each
        operation would wait for each other wherever others use the machine, too. Blocks do not
        depend on the number of threads, so neither do results.

        Args:
            model: that they are going to pass.
            work: what is done.
        """
        return map_batches(lambda rows: work(rows, self.part(rows)), self._blocks(model))

    def batches(self, model: SequenceModel) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
        """Rows, ``x`` and ``lengths`` of the blocks, one after another."""
        for rows in self._blocks(model):
            part = self.part(rows)
            yield rows, part.x, part.lengths

    def _blocks(self, model: SequenceModel) -> list[slice]:
        size = max(1, min(BLOCK_FLOATS // _floats(model, self.x), len(self)))
        return [slice(start, start + size) for start in range(0, len(self), size)]


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """What torch and BLAS compute is computed by the thread that calls."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def give_back_memory() -> None:
    """What threads have freed goes back to the system; glibc alone would keep it for them."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def select(
    model: SequenceModel,
    x: Tensor,
    lengths: Tensor | None,
    source: str,
    memory: int | None = None,
) -> Calibration:
    """Sequences as a model takes them.

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
    return Calibration(x, lengths, source, len(x), model.config.channels_first, memory)


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
    copied.time_last = True
    for module in copied.modules():
        if isinstance(module, Systems):
            module.freeze_(torch.float32)
    return copied


def output_on(model: SequenceModel, calibration: Calibration) -> Tensor:
    """(sequences, ...) a model's output, padding zeroed."""

    def output(rows: slice, part: Calibration) -> Tensor:
        with torch.no_grad():
            return part.output_of(model)

    return torch.cat(calibration.in_blocks(model, output))


class Passage:
    """Sequences on their way through a model, block by block.

    Args:
        model: whose blocks ahead may be replaced on the way.
        calibration: the sequences.
    """

    def __init__(self, model: SequenceModel, calibration: Calibration) -> None:
        self.model, self.calibration, self.at = model, calibration, 0
        self._hidden: Tensor | None = None
        self._pass(lambda rows, part: model.encode(part.x, part.lengths))

    @property
    def hidden(self) -> Tensor:
        """(sequences, length, features) what enters the next block, until they `advance`."""
        assert self._hidden is not None
        return self._hidden

    def inputs(self, backward: bool = False) -> Tensor:
        """(features, sequences, length) what the systems of the next block read.

        It may lie where the sequences do, until they `advance`.
        """
        block, u = self.model.blocks[self.at], self.hidden
        if block.config.norm_placement == "pre":
            before = _Gathered(len(u))

            def work(rows: slice, part: Calibration) -> None:
                with torch.no_grad():
                    before.put(rows, block.before(self._at(rows)).mT)

            self.calibration.in_blocks(self.model, work)
            assert before.whole is not None
            u = before.whole.mT
        lengths = lengths_entering(self.model, self.calibration.lengths)[self.at]
        return _ends_together(reversed_input(u) if backward else u, lengths)

    def advance(self) -> None:
        """Through the next block."""
        block = self.model.blocks[self.at]
        self._pass(lambda rows, part: block(self._at(rows)))
        self.at += 1

    def output(self) -> Tensor:
        """What the model makes of them from here on, padding zeroed.

        Returns:
            (sequences, d_output) with pooling, else (sequences, length, d_output).
        """
        model = self.model

        def rest(rows: slice, part: Calibration) -> Tensor:
            with torch.no_grad():
                h = self._at(rows)
                for block in list(model.blocks)[self.at :]:
                    h = block(h)
                y = model.decode(norm(model.norm, h), part.length, part.lengths)
                return padding_zeroed(model, y, part.lengths)

        return torch.cat(self.calibration.in_blocks(model, rest))

    def _at(self, rows: slice) -> Tensor:
        return self.hidden[rows]

    def _pass(self, function: Callable[[slice, Calibration], Tensor]) -> None:
        """Replace the sequences, block by block, where they lie if they keep their shape."""
        after = _Gathered(len(self.calibration))

        def work(rows: slice, part: Calibration) -> None:
            with torch.no_grad():
                new = function(rows, part)
                old = self._hidden
                if old is not None and old.shape[1:] == new.shape[1:]:
                    old[rows] = new
                else:
                    after.put(rows, new.mT)

        self.calibration.in_blocks(self.model, work)
        if after.whole is not None:
            self._hidden = after.whole.mT


class _Gathered:
    """Sequences, (sequences, features, length), put together from blocks."""

    def __init__(self, count: int, dtype: torch.dtype | None = None) -> None:
        self.whole: Tensor | None = None
        self._count, self._dtype, self._lock = count, dtype, threading.Lock()

    def put(self, rows: slice, part: Tensor) -> None:
        """Some of them, of the same shape as the others."""
        with self._lock:
            if self.whole is None:
                shape = (self._count, *part.shape[1:])
                self.whole = torch.empty(shape, dtype=self._dtype or part.dtype)
        self.whole[rows] = part


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
    out = u.permute(2, 0, 1)
    if lengths is not None:
        length, out = u.shape[1], out.clone()
        for row, end in enumerate(lengths.tolist()):
            out[:, row] = torch.cat([out.new_zeros(len(out), length - end), out[:, row, :end]], 1)
    return out


def autocorrelation(u: Tensor) -> Float:
    """(length,) ``sum_t u_t u_{t+tau}`` of each sequence, summed over sequences, float64.

    Args:
        u: (sequences, length).
    """
    length = u.shape[1]
    power = power_of(transform(u))
    out: Float = torch.fft.irfft(power, n=2 * length)[:length].numpy()
    return out


@dataclass(frozen=True)
class Gradients:
    """Of random projections of the model's output, by what the systems of a layer answer.

    With a projection on random signs, the mean square of the projected error is the mean square
    of the output's error.

    Attributes:
        of: by block, (channels, sequences, length) bfloat16, ends together: what is made of them
            are sums over thousands of samples.
        output: (sequences, ...) of the model, padding zeroed.
    """

    of: list[Tensor]
    output: Tensor


def output_gradients(
    model: SequenceModel,
    calibration: Calibration,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Gradients:
    """One pass forward and backward for each sequence.

    Args:
        model: a `working_copy`.
        calibration: the sequences.
        progress: called with the fraction done.
    """
    found = [_Gathered(len(calibration), torch.bfloat16) for _ in model.blocks]
    done = 0

    def both_ways(rows: slice, part: Calibration) -> Tensor:
        nonlocal done
        with torch.enable_grad():
            h = model.encode(part.x, part.lengths).requires_grad_()
            answers = []
            for block in model.blocks:
                u = block.before(h)
                y = block.respond(u)
                answers.append(y)
                h = block.after(h, u, y)
            out = model.decode(norm(model.norm, h), part.length, part.lengths)
            out = padding_zeroed(model, out, part.lengths)
            generator = torch.Generator().manual_seed(_SEED + rows.start)
            signs = torch.randint(0, 2, out.shape, generator=generator).to(out.dtype) * 2 - 1
            gradients = torch.autograd.grad((signs * out).sum(), answers)
        entering = lengths_entering(model, part.lengths)
        for into, gradient, ends in zip(found, gradients, entering, strict=False):
            into.put(rows, _ends_together(gradient, ends).transpose(0, 1))
        done += len(part)
        progress(done / len(calibration))
        return out.detach()

    output = torch.cat(calibration.in_blocks(model, both_ways))
    of = [each.whole.transpose(0, 1) for each in found if each.whole is not None]
    return Gradients(of, output)
