"""Streaming samples through a model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from s4edge.arrays import Float, Single
from s4edge.errors import S4EdgeError
from s4edge.runtime.backends.base import Graph


class Stream:
    """One sequence, or a batch of them side by side, going through a step or chunk graph.

    Several streams may share a graph; each has its own state. Where ``graph.info.length`` is
    set, the outputs are exact only for sequences of that many samples: `reset` between them.

    `step` is the quick way, one run of the graph: a sample, or a chunk of T. `extend` takes any
    number of samples and keeps those that make no whole chunk for the next call; `finish` gives
    the outputs after these.
    """

    def __init__(self, graph: Graph, batch: int = 1) -> None:
        """Allocate every buffer, with the state at zero.

        Args:
            graph: an opened step or chunk graph.
            batch: sequences that go side by side.

        Raises:
            S4EdgeError: the graph cannot take that batch size.
        """
        info = graph.info
        if not info.streams:
            raise S4EdgeError(
                f"{info.path} takes whole sequences and cannot be streamed; export a step graph "
                "with: s4edge export MODEL --onnx"
            )
        if batch < 1:
            raise S4EdgeError(f"batch must be at least 1, not {batch}")
        if graph.batch not in (None, batch):
            raise S4EdgeError(
                f"{info.path} is fixed to batch size {graph.batch}, not {batch}; export it with "
                f"--batch {batch}, or without for any"
            )
        self.samples_per_run = info.samples_per_run or 1
        self._running = graph.start(batch)
        self._x, self._y = self._running.x, self._running.y
        self._waiting: Single = np.zeros((batch, 0, info.d_input), np.float32)

    def step(self, x: npt.ArrayLike) -> Single:
        """Take in what one run of the graph takes, and give the output after each sample of it.

        Args:
            x: a sample, (batch, d_input), or a chunk, (batch, T, d_input); without the first axis
                for a batch of one.

        Returns:
            (batch, d_output) or (batch, T, d_output): the stream's own buffer. The next `step`
            overwrites it; copy what has to last.

        Raises:
            S4EdgeError: ``x`` has another shape or holds no real numbers, or samples wait for a
                whole chunk.
        """
        if self._waiting.shape[1]:
            raise S4EdgeError(
                f"{self._waiting.shape[1]} samples wait for a whole chunk of "
                f"{self.samples_per_run}: go on with `extend`, or `reset`"
            )
        sample = np.asarray(x)
        if sample.shape != self._x.shape and (1, *sample.shape) != self._x.shape:
            kind, axes = ("sample", "batch, d_input") if self._x.ndim == 2 else (
                "chunk", "batch, T, d_input")  # fmt: skip
            raise S4EdgeError(
                f"a {kind} of shape {sample.shape} was given to a stream of ({axes}) = "
                f"{self._x.shape}"
            )
        try:
            np.copyto(self._x, sample, casting="same_kind")
        except TypeError as error:
            raise S4EdgeError(
                f"a sample of {sample.dtype} was given where float32 is wanted"
            ) from error
        self._running.run()
        return self._y

    def timed(self, x: Single) -> Float | None:
        """As many steps, each measured where it is made; see `s4edge.runtime.backends.base`."""
        return self._running.timed(x)

    def extend(self, x: npt.ArrayLike) -> Single:
        """Take in any number of samples and give the outputs that are ready.

        Args:
            x: (batch, samples, d_input); (samples, d_input) for a batch of one.

        Returns:
            (batch, outputs, d_output), a new array: of a step graph one for each sample, of a
            chunk graph those of the chunks that are whole now.

        Raises:
            S4EdgeError: ``x`` has another shape or holds no real numbers.
        """
        samples = np.asarray(x)
        batch, d_input = self._x.shape[0], self._x.shape[-1]
        if samples.ndim == 2 and batch == 1:
            samples = samples[None]
        if samples.ndim != 3 or (samples.shape[0], samples.shape[2]) != (batch, d_input):
            raise S4EdgeError(
                f"samples of shape {np.shape(x)} were given to a stream of (batch, samples, "
                f"d_input) = ({batch}, any, {d_input})"
            )
        if not np.can_cast(samples.dtype, np.float32, "same_kind"):
            raise S4EdgeError(f"samples of {samples.dtype} were given where float32 is wanted")
        samples = np.concatenate([self._waiting, samples], axis=1, dtype=np.float32)
        self._waiting = self._waiting[:, :0]
        whole = samples.shape[1] // self.samples_per_run * self.samples_per_run
        y = self._running.extend(samples[:, :whole])
        self._waiting = samples[:, whole:].copy()
        return y

    def finish(self) -> Single:
        """Give the outputs after the samples that wait for a whole chunk.

        They go on waiting: a sequence may be carried on after a look at its last outputs.

        Returns:
            (batch, waiting samples, d_output), a new array.
        """
        waiting = self._waiting
        count = waiting.shape[1]
        if count == 0:
            return np.empty((len(waiting), 0, self._y.shape[-1]), np.float32)
        # Filled up: no output depends on what comes later, but that a norm may make NaN of zeros,
        # which a graph's products would spread. The state after it is not kept.
        missing = self.samples_per_run - count
        filled = np.pad(waiting, ((0, 0), (0, missing), (0, 0)), mode="edge")
        self._waiting = waiting[:, :0]
        y: Single = self.step(filled)[:, :count].copy()
        self._running.undo()
        self._waiting = waiting
        return y

    def reset(self) -> None:
        """Start a new sequence: the state is zero again and no sample waits."""
        self._running.state.fill(0)
        self._waiting = self._waiting[:, :0]

    @property
    def state(self) -> Single:
        """A copy of the packed state after the last whole chunk, (batch, S)."""
        return self._running.state.copy()

    @property
    def waiting(self) -> Single:
        """A copy of the samples that wait for a whole chunk, (batch, fewer than T, d_input)."""
        return self._waiting.copy()

    def restore(self, state: npt.ArrayLike, waiting: npt.ArrayLike | None = None) -> None:
        """Go on from what was saved: `state`, and `waiting` where samples waited.

        The state may come from a step or chunk graph of the same model alike.

        Raises:
            S4EdgeError: ``state`` or ``waiting`` has another shape.
        """
        current = self._running.state
        saved = np.asarray(state)
        if saved.shape != current.shape:
            raise S4EdgeError(
                f"a state of shape {saved.shape} was given to a stream of (batch, S) = "
                f"{current.shape}"
            )
        left = self._waiting[:, :0] if waiting is None else np.array(waiting, np.float32)
        batch, _, d_input = self._waiting.shape
        if left.ndim != 3 or left.shape[::2] != (batch, d_input) or (
            left.shape[1] >= self.samples_per_run
        ):  # fmt: skip
            raise S4EdgeError(
                f"waiting samples of shape {left.shape} were given to a stream of (batch, fewer "
                f"than T, d_input) = ({batch}, < {self.samples_per_run}, {d_input})"
            )
        current[...] = saved
        self._waiting = left
