"""What a backend is: it opens files of its kind, and runs the models in them.

A backend is a module of this folder with the functions of `Backend`; `s4edge.runtime.backends`
knows which file is whose. Whatever streams, evaluates or measures models knows no more than this.
"""

from __future__ import annotations

import abc
from pathlib import Path
from typing import Protocol

import numpy as np

from s4edge.arrays import Float, Single
from s4edge.runtime.description import GraphInfo


class Running(abc.ABC):
    """Sequences side by side on their way through a model: their state, and one run of it.

    Attributes:
        x: what the next run takes in, (batch, d_input), or (batch, T, d_input) where a run takes a
            chunk; written in place.
        y: the outputs of the latest run, (batch, d_output) or (batch, T, d_output).
    """

    x: Single
    y: Single

    @abc.abstractmethod
    def run(self) -> None:
        """Take in `x`: the state moves on, outputs are in `y`.

        Raises:
            S4EdgeError: it fails.
        """

    @abc.abstractmethod
    def undo(self) -> None:
        """Make the state what it was before the latest run."""

    @property
    @abc.abstractmethod
    def state(self) -> Single:
        """The packed state itself, (batch, S), to be read or written; zeros begin a sequence."""

    def timed(self, x: Single) -> Float | None:
        """Take in runs one after another, and measure each where it is made.

        Args:
            x: (batch, runs, d_input), of one sequence that takes a sample a run.

        Returns:
            (runs,) nanoseconds of each; None where nothing is nearer to a run than its caller, and
            nothing was taken in.
        """
        return None

    def extend(self, x: Single) -> Single:
        """Take in many runs' samples at once.

        Args:
            x: (batch, samples, d_input), samples of whole runs.

        Returns:
            (batch, samples, d_output), a new array.

        Raises:
            S4EdgeError: it fails.
        """
        batch, samples, _ = x.shape
        per_run = self.x.shape[1] if self.x.ndim == 3 else 1
        y: Single = np.empty((batch, samples, self.y.shape[-1]), np.float32)
        for start in range(0, samples, per_run):
            self.x[...] = x[:, start : start + per_run].reshape(self.x.shape)
            self.run()
            y[:, start : start + per_run] = self.y.reshape(batch, per_run, -1)
        return y


class Graph(abc.ABC):
    """An opened model.

    Attributes:
        info: what it says about itself.
        runtime: what runs it, and its version.
        batch: the batch size that it is fixed to, None if any will do.
    """

    info: GraphInfo
    runtime: str
    batch: int | None

    @abc.abstractmethod
    def start(self, batch: int) -> Running:
        """Sequences at zero state, where the model streams; it takes that batch size."""

    @abc.abstractmethod
    def run(self, x: Single) -> Single:
        """Outputs of whole sequences (batch, length, d_input), where the model takes such.

        Raises:
            S4EdgeError: it fails.
        """


class Backend(Protocol):
    """The functions of a backend's module. Importing it imports what it needs."""

    def open_file(self, path: Path, threads: int) -> Graph:
        """Open a model that a run may use so many threads for. Raises S4EdgeError if it cannot."""

    def read_info(self, path: Path) -> GraphInfo:
        """What a file, maybe for another machine, says about itself. Raises as `open_file` does."""
