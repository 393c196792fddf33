"""The arms of the experiment, and one run of each."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from functools import cache

from tasks import LARGE, Parts, Task

import s4edge
from s4edge.data.dataset import Data
from s4edge.data.metrics import score
from s4edge.model.sequence_model import SequenceModel
from s4edge.training.evaluate import predict
from s4edge.training.finetune import finetune_model
from s4edge.training.initial import initial_model
from s4edge.training.settings import TrainingSettings

ARMS = {
    "a": "from scratch at the small size, full budget",
    "b": "from scratch at state size 64: the original",
    "c": "the paper: complex balanced truncation of b, then training",
    "d": "s4edge without training: b calibrated, allocated, refined",
    "e": "d, then training",
    "f": "d, then distillation from b, without labels",
}
CALIBRATION_SAMPLES = 1000
# From scratch; after reduction, half of it.
SCRATCH = TrainingSettings(epochs=1, rate=1e-2, pole_rate=1e-2, step_rate=2e-3)
FURTHER = dataclasses.replace(SCRATCH, rate=5e-3, pole_rate=5e-3, step_rate=1e-3)


@dataclass(frozen=True)
class Row:
    """One run. Attributes: as the columns of the table are called; accuracies are fractions."""

    task: str
    arm: str
    state: int
    seed: int
    accuracy: float
    validation: float
    epochs: int
    seconds: float
    real_states: int
    parameters: int


def accuracy(model: SequenceModel, data: Data) -> float:
    """On labelled data."""
    return score(predict(model, data), data).value


def start_of(task: Task, state: int, seed: int) -> SequenceModel:
    """A model of random weights (S4D-LegS, which is Skew-HiPPO)."""
    return initial_model(
        task.inputs, 10, d_model=task.d_model, layers=task.layers, state=state, seed=seed,
        encoder=task.encoder,
    )  # fmt: skip


def trained(
    model: SequenceModel,
    parts: Parts,
    settings: TrainingSettings,
    epochs: int,
    seed: int,
    teacher: SequenceModel | None = None,
) -> SequenceModel:
    """The best of its epochs by validation; the start is none where nothing was trained before."""
    settings = dataclasses.replace(
        settings, epochs=epochs, seed=seed, distill=0.0 if teacher is None else 1.0
    )
    return finetune_model(
        model, parts.train, settings, validation=parts.validation, teacher=teacher
    )


def papers_reduction(model: SequenceModel, state: int) -> SequenceModel:
    """Balanced truncation of the complex half-system, every channel alike."""
    return s4edge.compress(model, state, method="complex-balanced")


def our_reduction(model: SequenceModel, parts: Parts, state: int) -> SequenceModel:
    """Calibrated on training sequences without labels, allocated, refined."""
    data = parts.train
    chosen = Data(
        data.x[:CALIBRATION_SAMPLES], None,
        None if data.lengths is None else data.lengths[:CALIBRATION_SAMPLES], data.source,
    )  # fmt: skip
    return s4edge.compress(model, state, calibration=chosen, allocate="sensitivity")


class Runs:
    """All arms of one task and seed; what several share is made once.

    Args:
        task: of the table.
        parts: its data.
        seed: of starts and orders.
    """

    def __init__(self, task: Task, parts: Parts, seed: int) -> None:
        self.task, self.parts, self.seed = task, parts, seed
        self.began = time.perf_counter()
        self.original = trained(start_of(task, LARGE, seed), parts, SCRATCH, task.before, seed)
        self.first = self._row("b", LARGE, self.original, task.before)

    def rows(self, done: Container[tuple[str, int]] = ()) -> Iterator[Row]:
        """The original, then every small size; arms and states that are `done` are not run."""
        if ("b", LARGE) not in done:
            yield self.first
        for state in (1, *self.task.states):
            for arm, budget, model in self._of_state(state):
                if (arm, state) not in done:
                    self.began = time.perf_counter()
                    yield self._row(arm, state, model(), budget)

    def _of_state(self, state: int) -> Iterator[tuple[str, int, Callable[[], SequenceModel]]]:
        """Arm, epochs and what makes the model."""
        task, parts, seed = self.task, self.parts, self.seed
        small = cache(lambda: our_reduction(self.original, parts, state))

        def further(model: SequenceModel, teacher: SequenceModel | None = None) -> SequenceModel:
            return trained(model, parts, FURTHER, task.after, seed, teacher)

        if state > 1:  # one real state per channel is no conjugate pair
            budget = task.before + task.after
            start = start_of(task, state, seed)
            yield "a", budget, lambda: trained(start, parts, SCRATCH, budget, seed)
            yield "c", task.after, lambda: further(papers_reduction(self.original, state))
        yield "d", 0, small
        yield "e", task.after, lambda: further(small())
        yield "f", task.after, lambda: further(small(), self.original)

    def _row(self, arm: str, state: int, model: SequenceModel, epochs: int) -> Row:
        seconds = round(time.perf_counter() - self.began, 1)
        return Row(
            self.task.name, arm, state, self.seed, accuracy(model, self.parts.test),
            accuracy(model, self.parts.validation), epochs, seconds, model.config.real_states,
            model.parameter_count(),
        )  # fmt: skip
