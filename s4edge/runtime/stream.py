"""Streaming samples through a step graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from s4edge.errors import S4EdgeError
from s4edge.runtime.graph import Graph

Floats = npt.NDArray[np.float32]


class Stream:
    """One sequence, or a batch of them side by side, going through a step graph.

    Several streams may share a graph; each has its own state. Where ``graph.info.length`` is
    set, the outputs are exact only for sequences of that many samples: `reset` between them.
    """

    def __init__(self, graph: Graph, batch: int = 1) -> None:
        """Allocate every buffer, with the state at zero.

        Args:
            graph: an opened step graph.
            batch: sequences that go side by side.

        Raises:
            S4EdgeError: the graph cannot take that batch size.
        """
        info = graph.info
        if info.mode != "step":
            raise S4EdgeError(
                f"{info.path} takes whole sequences and cannot be streamed; export a step graph "
                "with: s4edge export MODEL --onnx"
            )
        if batch < 1:
            raise S4EdgeError(f"batch must be at least 1, not {batch}")
        if graph.batch not in (None, batch):
            raise S4EdgeError(f"{info.path} is fixed to batch size {graph.batch}, not {batch}")
        self._session = graph.session
        self._x: Floats = np.zeros((batch, info.d_input), np.float32)
        self._y: Floats = np.zeros((batch, info.d_output), np.float32)
        self._states: tuple[Floats, Floats] = (
            np.zeros((batch, info.state_floats), np.float32),
            np.zeros((batch, info.state_floats), np.float32),
        )
        # One binding for each direction: the state is never copied, the buffers swap roles.
        self._bindings = (self._bind(0, 1), self._bind(1, 0))
        self._current = 0

    def step(self, x: npt.ArrayLike) -> Floats:
        """Take in one sample and give the output after it.

        Args:
            x: the sample, (batch, d_input); or (d_input,) for a batch of one.

        Returns:
            (batch, d_output): the stream's own buffer. The next `step` overwrites it; copy
            what has to last.

        Raises:
            S4EdgeError: ``x`` has another shape or holds no real numbers.
        """
        sample = np.asarray(x)
        if sample.shape != self._x.shape and (1, *sample.shape) != self._x.shape:
            raise S4EdgeError(
                f"a sample of shape {sample.shape} was given to a stream of (batch, d_input) = "
                f"{self._x.shape}"
            )
        try:
            np.copyto(self._x, sample, casting="same_kind")
        except TypeError as error:
            raise S4EdgeError(
                f"a sample of {sample.dtype} was given where float32 is wanted"
            ) from error
        self._session.run_with_iobinding(self._bindings[self._current])
        self._current = 1 - self._current
        return self._y

    def reset(self) -> None:
        """Start a new sequence: the state is zero again."""
        self._states[self._current].fill(0)

    @property
    def state(self) -> Floats:
        """A copy of the packed state, (batch, S)."""
        state: Floats = self._states[self._current].copy()
        return state

    def restore(self, state: npt.ArrayLike) -> None:
        """Go on from a state saved before, (batch, S).

        Raises:
            S4EdgeError: ``state`` has another shape.
        """
        current = self._states[self._current]
        saved = np.asarray(state)
        if saved.shape != current.shape:
            raise S4EdgeError(
                f"a state of shape {saved.shape} was given to a stream of (batch, S) = "
                f"{current.shape}"
            )
        current[...] = saved

    def _bind(self, now: int, after: int) -> onnxruntime.IOBinding:
        binding: Any = self._session.io_binding()
        for bind, name, buffer in (
            (binding.bind_input, "x", self._x),
            (binding.bind_input, "state", self._states[now]),
            (binding.bind_output, "y", self._y),
            (binding.bind_output, "next_state", self._states[after]),
        ):
            # By address: onnxruntime then reads and writes these arrays themselves.
            bind(name, "cpu", 0, np.float32, buffer.shape, buffer.ctypes.data)
        return binding
