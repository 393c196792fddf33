"""The tasks of the experiment: data, shape of the model, and how long each arm trains."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import scipy.signal
from listops import TOKENS, examples

from s4edge.data.dataset import Data
from s4edge.model.configuration import Encoder

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))


@dataclass(frozen=True)
class Parts:
    """Training, validation (chooses the epoch) and test data."""

    train: Data
    validation: Data
    test: Data


@dataclass(frozen=True)
class Task:
    """A task of the experiment.

    Attributes:
        name: of the table.
        load: gives the data, from the folder of shared data.
        inputs: features or tokens that the model reads.
        encoder: how.
        d_model: channels.
        layers: of the model.
        before: epochs of training before reduction.
        after: and after it; from scratch at the small size a model gets both.
        states: small state sizes; the large one is `LARGE`.
    """

    name: str
    load: Callable[[Path], Parts]
    inputs: int
    encoder: Encoder
    d_model: int
    layers: int
    before: int
    after: int
    states: tuple[int, ...]


LARGE = 64


def _example(name: str) -> ModuleType:
    """``data.py`` of a shipped example."""
    spec = importlib.util.spec_from_file_location(
        f"{name}_data", ROOT / "examples" / name / "data.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _parts(x: np.ndarray, y: np.ndarray, held_out: int, test: Data, source: str) -> Parts:
    return Parts(
        Data(x[held_out:], y[held_out:], None, source),
        Data(x[:held_out], y[:held_out], None, source),
        test,
    )


def digits(shared: Path) -> Parts:
    """8x8 digits pixel by pixel: 64 steps."""
    x, y, x_test, y_test = _example("digits").load_digits_sequences()
    return _parts(x, y, 197, Data(x_test, y_test, None, "digits"), "digits")


def mnist_rows(shared: Path) -> Parts:
    """MNIST row by row: 28 steps of 28 pixels; images 8,000 to 9,999 are the test."""
    from trained_checkpoints import load_mnist

    x, y = load_mnist(shared)
    x = x.reshape(len(x), 28, 28)
    test = Data(x[8000:], y[8000:], None, "MNIST rows")
    return _parts(x[:8000], y[:8000], 800, test, "MNIST rows")


def spoken(shared: Path) -> Parts:
    """Spoken digits as raw audio at 2 kHz: 1,024 steps."""
    module = _example("spoken_digits")
    raw = module.load(shared / "data" / "spoken_digits.npz")

    def part(name: str) -> Data:
        clips = module.clips(raw[name])
        x = scipy.signal.decimate(clips.x[:, :, 0], 2, axis=1)[:, :, None]
        return Data(np.ascontiguousarray(x, np.float32), clips.y, None, "spoken digits")

    return Parts(part("train"), part("validation"), part("test"))


def listops(shared: Path) -> Parts:
    """Expressions of 10 to 64 tokens."""

    def part(count: int, seed: int) -> Data:
        return Data(*examples(count, seed), "ListOps")

    return Parts(part(4000, 0), part(500, 1), part(1000, 2))


TASKS = {
    task.name: task
    for task in (
        Task("digits", digits, 1, "linear", 32, 2, 24, 8, (2, 4, 8, 16, 32)),
        Task("mnist-rows", mnist_rows, 28, "linear", 48, 2, 8, 3, (2, 4, 8, 16, 32)),
        Task("spoken", spoken, 1, "linear", 32, 2, 10, 3, (2, 8)),
        Task("listops", listops, TOKENS, "embedding", 48, 2, 10, 3, (2, 8)),
    )
}
