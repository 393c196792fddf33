"""A source streamed through a graph: answers as they come, and how long they took."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s4edge.arrays import Int, Samples, Single
from s4edge.errors import S4EdgeError
from s4edge.runtime.backends.base import Graph
from s4edge.runtime.sources import Source, open_source
from s4edge.runtime.stream import Stream

ON_NAN = ("error", "skip", "zero")
# Of one piece that is run before answers are handed on: a tenth of a second of work or less.
_PIECE = 512


@dataclass(frozen=True)
class Answer:
    """What the model says after a sample.

    Attributes:
        sample: samples of the source so far.
        y: (d_output,) the output after that sample.
        seconds: of signal so far; None where nobody said the rate.
        best: where outputs are scores of classes, the class of the largest, from 0.
        sequence: where sequences follow each other in the source, the number of this one, from 1.
        end: whether its sequence is complete.
    """

    sample: int
    y: Single
    seconds: float | None = None
    best: int | None = None
    sequence: int | None = None
    end: bool = False

    def to_json(self, labels: Sequence[str] | None = None) -> dict[str, Any]:
        """The keys of a line of ``s4edge run``; ``labels`` are the classes' names."""
        answer: dict[str, Any] = {"sample": self.sample}
        if self.seconds is not None:
            answer["seconds"] = round(self.seconds, 6)
        if self.sequence is not None:
            answer |= {"sequence": self.sequence, "end": self.end}
        if self.best is not None:
            answer["class"] = self.best
            if labels is not None:
                answer["label"] = labels[self.best]
        # The shortest digits that give the same float32 back.
        answer["y"] = [float(str(value)) for value in self.y]
        return answer


class StreamRun:
    """Answers of a graph to a source; iterate it once.

    What had been taken in before an error, Ctrl-C or SIGTERM is answered first; then that is
    raised.

    Attributes:
        rate: samples per second, or None.
        samples: samples of the source that were taken so far.
        last: the last answer that was handed on.
    """

    def __init__(
        self,
        graph: Graph,
        source: Iterable[Samples],
        *,
        every: int | None = 1,
        reset: int | None = None,
        pad: bool = False,
        take: int | None = None,
        scale: float = 1.0,
        offset: float = 0.0,
        on_nan: str = "error",
        classes: bool | None = None,
        rate: float | None = None,
    ) -> None:
        """See `run_stream`."""
        info = graph.info
        if on_nan not in ON_NAN:
            raise S4EdgeError(f"on_nan must be {', '.join(ON_NAN)}, not {on_nan!r}")
        for name, value in (("every", every), ("reset", reset), ("take", take)):
            if value is not None and value < 1:
                raise S4EdgeError(f"{name} must be at least 1 sample, not {value}")
        if info.length is not None and reset not in (None, info.length):
            raise S4EdgeError(
                f"{info.path} is exact for sequences of {info.length} samples only (DSS softmax): "
                f"a reset after {reset} makes others"
            )
        self._reset = reset if info.length is None else info.length
        if pad and self._reset is None:
            raise S4EdgeError("pad fills up the last sequence: say how long one is with reset")
        tokens = info.tokens is not None
        if tokens and (pad or (scale, offset) != (1, 0)):
            raise S4EdgeError(f"{info.path} takes tokens, which are not scaled, shifted or padded")
        self.rate = source.rate if isinstance(source, Source) else rate
        self.samples = 0
        self.last: Answer | None = None
        self._graph, self._source, self._stream = graph, source, Stream(graph)
        self._every, self._pad, self._take, self._on_nan = every, pad, take, on_nan
        self._scale, self._offset = scale, offset
        self._classes = _classifies(graph) if classes is None else classes
        self._name = source.name if isinstance(source, Source) else "the input"
        self._warnings: list[str] = []
        self._ready: deque[Answer] = deque()
        # Numbers of the samples that are in the stream and not yet answered.
        self._due: Int = np.empty(0, np.int64)
        # The last output, the number of its sample, and whether it was not answered.
        self._y: Single | None = None
        self._at = 0
        self._open = False
        self._fed = self._total_fed = self._bad = self._nanoseconds = 0
        self._first_bad: int | None = None
        self._sequence = 1
        self._torn = False

    def __iter__(self) -> Iterator[Answer]:
        """Read, run, answer.

        Raises:
            S4EdgeError: the source cannot be read on, holds what the graph does not take, or no
                sample at all; or the outputs are not finite.
        """
        trouble: BaseException | None = None
        try:
            for block in self._taken():
                x, numbers, wrong = self._prepared(block)
                for start in range(0, len(x), _PIECE):
                    self._feed(x[start : start + _PIECE], numbers[start : start + _PIECE])
                    yield from self._handed_on()
                if wrong is not None:
                    raise wrong
        except (S4EdgeError, KeyboardInterrupt, SystemExit) as error:
            trouble = error
        yield from self._handed_on()
        try:
            self._finish(pad=self._pad and trouble is None)
        except S4EdgeError as error:
            trouble = trouble or error
        yield from self._handed_on()
        if trouble is not None:
            raise trouble
        if not self.samples:
            raise S4EdgeError(f"{self._name} holds no sample")

    @property
    def us_per_sample(self) -> float | None:
        """Microseconds that the graph took for a sample, on average; None before the first."""
        return self._nanoseconds / 1e3 / self._total_fed if self._total_fed else None

    @property
    def real_time_factor(self) -> float | None:
        """The graph's time over the signal's: below 1 it keeps up. None without a rate."""
        if self.rate is None or self.us_per_sample is None:
            return None
        return self.us_per_sample * self.rate / 1e6

    @property
    def warnings(self) -> list[str]:
        """What a person should know, so far."""
        found = list(self._source.warnings) if isinstance(self._source, Source) else []
        if self._bad:
            did = "skipped" if self._on_nan == "skip" else "taken as zero"
            found.append(
                f"{self._name}: {self._bad} sample{' was' if self._bad == 1 else 's were'} NaN or "
                f"infinite and {did}, the first is sample {self._first_bad}"
            )
        factor = self.real_time_factor
        # Of less than a second, the graph's first runs are too large a part.
        enough = self.rate is not None and self._total_fed >= self.rate
        if factor is not None and factor > 1 and enough:
            found.append(
                f"the graph is slower than the signal (real-time factor {factor:.2f}): live "
                "samples would be lost; export with --chunk, or compress further"
            )
        return found + self._warnings

    def _taken(self) -> Iterator[Samples]:
        if self._take is None:
            yield from self._source
            return
        left = self._take
        for block in self._source:
            yield block[:left]
            left -= len(block)
            if left <= 0:  # without waiting for more
                return

    def _prepared(self, block: Samples) -> tuple[Single, Int, S4EdgeError | None]:
        """What the graph takes, the samples' numbers from 1, and what is wrong after these."""
        info = self._graph.info
        block = np.asarray(block)
        if block.ndim != 2 or block.shape[1] != info.d_input:
            raise S4EdgeError(
                f"{self._name} gives samples of shape {block.shape}, {info.path} takes (samples, "
                f"d_input) = (any, {info.d_input})"
            )
        if block.dtype.kind not in "fiub":
            raise S4EdgeError(f"{self._name} gives {block.dtype}, {info.path} takes real numbers")
        numbers = np.arange(self.samples + 1, self.samples + len(block) + 1)
        if info.tokens is not None:
            good = (block >= 0) & (block < info.tokens) & (block == np.floor(block))
            bad = np.flatnonzero(~good[:, 0])
            wrong = None
            if len(bad):
                end = int(bad[0])
                wrong = S4EdgeError(
                    f"sample {numbers[end]} of {self._name} is {block[end, 0]}, {info.path} takes "
                    f"whole tokens from 0 to {info.tokens - 1}"
                )
                block, numbers = block[:end], numbers[:end]
            self.samples += len(block)
            return block.astype(np.float32), numbers, wrong
        with np.errstate(over="ignore", invalid="ignore"):
            if (self._scale, self._offset) != (1, 0):
                block = block.astype(np.float64) * self._scale + self._offset
            x = block.astype(np.float32)
        finite = np.isfinite(x).all(axis=1)
        if finite.all():
            self.samples += len(x)
            return x, numbers, None
        bad = np.flatnonzero(~finite)
        first = int(numbers[bad[0]])
        if self._on_nan == "error":
            end = int(bad[0])
            value = next(v for v in x[end] if not np.isfinite(v))
            at = f" (at {self._time(first - 1):.6g} s)" if self.rate is not None else ""
            self.samples += end
            return (
                x[:end],
                numbers[:end],
                S4EdgeError(
                    f"sample {first} of {self._name} is {value}{at}; go on past such samples with "
                    "--on-nan skip or --on-nan zero"
                ),
            )
        self.samples += len(x)
        self._bad += len(bad)
        self._first_bad = self._first_bad or first
        if self._on_nan == "skip":
            return x[finite], numbers[finite], None
        return np.where(np.isfinite(x), x, np.float32(0)), numbers, None

    def _feed(self, x: Single, numbers: Int) -> None:
        """Run samples; answers that are ready are put into line."""
        self._torn = True
        while len(x):
            room = len(x) if self._reset is None else self._reset - self._fed
            part, x = x[:room], x[room:]
            self._due = np.concatenate([self._due, numbers[:room]])
            numbers = numbers[room:]
            y = self._timed(self._stream.extend, part)
            self._fed += len(part)
            self._total_fed += len(part)
            self._warn_past_exact()
            if self._fed == self._reset:
                self._collect(np.concatenate([y, self._timed(self._stream.finish)], axis=1), True)
                self._start_over()
            else:
                self._collect(y, False)
        self._torn = False

    def _finish(self, pad: bool) -> None:
        """Answer what waits for a whole chunk, and after the last sample."""
        # What Ctrl-C tore is not in the stream as a whole; the answer before it stands.
        if self._fed and not self._torn:
            self._finish_sequence(pad)
        self._answer_last(False)

    def _finish_sequence(self, pad: bool) -> None:
        if pad:
            assert self._reset is not None
            missing = self._reset - self._fed
            zeros = np.zeros((missing, self._graph.info.d_input), np.float32)
            for start in range(0, missing, _PIECE):
                part = zeros[start : start + _PIECE]
                # They are no samples of the source: the last one's number stays.
                self._feed(part, np.full(len(part), self.samples))
            return
        self._collect(self._timed(self._stream.finish), False)
        length = self._graph.info.length
        if length is not None:
            self._warnings.append(
                f"the last sequence has {self._fed} samples; {self._graph.info.path} is exact for "
                f"sequences of {length} only: fill it up with --pad if that is how it was trained"
            )

    def _collect(self, outputs: Single, end: bool) -> None:
        """Put the answers among outputs, (1, n, d_output), into line.

        The last output is one where it ends its sequence.
        """
        (y,) = outputs
        due = end
        if len(y):
            numbers, self._due = self._due[: len(y)], self._due[len(y) :]
            rows = np.zeros(len(y), bool)
            if self._every is not None:
                rows = np.diff(np.concatenate([[self._at], numbers]) // self._every) > 0
            for row in np.flatnonzero(rows[:-1]):
                self._answer(int(numbers[row]), y[row], False)
            self._at, self._y, self._open = int(numbers[-1]), y[-1].copy(), True
            due = end or bool(rows[-1])
        if due:
            self._answer_last(end)

    def _answer_last(self, end: bool) -> None:
        if self._open and self._y is not None:
            self._answer(self._at, self._y, end)
            self._open = False

    def _answer(self, number: int, y: Single, end: bool) -> None:
        if not np.isfinite(y).all():
            raise S4EdgeError(
                f"the output of {self._graph.info.path} after sample {number} of {self._name} is "
                "NaN or infinite: the input is far from what the model was trained on (--scale)"
            )
        self._ready.append(
            Answer(
                number,
                y.copy(),
                None if self.rate is None else self._time(number),
                int(y.argmax()) if self._classes else None,
                None if self._reset is None else self._sequence,
                end,
            )
        )

    def _handed_on(self) -> Iterator[Answer]:
        while self._ready:
            self.last = self._ready.popleft()
            yield self.last

    def _start_over(self) -> None:
        self._stream.reset()
        self._fed = 0
        self._sequence += 1

    def _warn_past_exact(self) -> None:
        exact = self._graph.info.exact_samples
        if exact is not None and self._fed > exact:
            text = (
                f"{self._graph.info.path} is exact for the first {exact} samples of a sequence "
                f"(the model's kernels are cut there); start over in time with --reset {exact}"
            )
            if text not in self._warnings:
                self._warnings.append(text)

    def _timed(self, call: Callable[..., Single], *arguments: Any) -> Single:
        start = time.perf_counter_ns()
        try:
            y = call(*arguments)
        except S4EdgeError:
            raise
        except Exception as error:  # whatever its runtime raises
            reason = "out of memory"
            if not isinstance(error, MemoryError):
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise S4EdgeError(
                f"{self._graph.info.path} failed after sample {self._at} of {self._name} ({reason})"
            ) from error
        self._nanoseconds += time.perf_counter_ns() - start
        return y

    def _time(self, number: int) -> float:
        assert self.rate is not None
        return number / self.rate


def run_stream(
    graph: Graph,
    source: Source | Iterable[Samples] | str | Path,
    *,
    every: int | None = 1,
    reset: int | None = None,
    pad: bool = False,
    take: int | None = None,
    scale: float = 1.0,
    offset: float = 0.0,
    on_nan: str = "error",
    classes: bool | None = None,
    rate: float | None = None,
) -> StreamRun:
    """Stream a source through a step or chunk graph, from zero state.

        graph = open_graph("model.onnx")
        for answer in run_stream(graph, "recording.wav", every=400):
            print(answer.seconds, answer.best)

    Args:
        graph: an opened step or chunk graph; both give the same answers.
        source: see `open_source`; a file's name; or any iterable of (samples, d_input) arrays.
        every: samples between answers; None for the last one only. Where samples are skipped, the
            next one is answered instead.
        reset: samples after which a new sequence begins at zero state. The last answer of each
            sequence is always given.
        pad: fill up the last sequence with zeros.
        take: samples to take at most; None for all.
        scale: what samples are multiplied with.
        offset: what is added then.
        on_nan: a member of `ON_NAN`: what is done with samples that are NaN or infinite.
        classes: whether outputs are scores of classes. None: yes where the model pools over time
            and has more than one output.
        rate: samples per second, where ``source`` is not one that knows.

    Raises:
        S4EdgeError: an argument does not fit to the graph, or the source cannot be opened. See
            `StreamRun` for what iterating raises.
    """
    if isinstance(source, (str, Path)):
        source = open_source(source, graph.info, rate=rate)
    return StreamRun(
        graph, source, every=every, reset=reset, pad=pad, take=take, scale=scale,
        offset=offset, on_nan=on_nan, classes=classes, rate=rate,
    )  # fmt: skip


def _classifies(graph: Graph) -> bool:
    """Graphs do not say what their outputs mean: one answer to a sequence is mostly a class."""
    return graph.info.pooling != "none" and graph.info.d_output > 1
