"""The arms of the experiment, and one run of each."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

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
class Cell:
    """One run: a model, and what it is measured as.

    Attributes:
        task: its name.
        arm: a key of `ARMS`.
        state: size.
        seed: of starts and orders.
        before: epochs of the original.
        after: and of the training after reduction; from scratch at the small size, after both.
    """

    task: str
    arm: str
    state: int
    seed: int
    before: int
    after: int

    @property
    def name(self) -> str:
        """For messages and files."""
        return f"{self.task}-{self.arm}-{self.state}-seed-{self.seed}-epochs-{self.before}"

    @property
    def sources(self) -> tuple[Cell, ...]:
        """Whose models it starts from: the reduced one if there is one, then the original."""
        original = dataclasses.replace(self, arm="b", state=LARGE, after=0)
        reduced = dataclasses.replace(self, arm="d", after=0)
        if self.arm in "ab":
            return ()
        return (original,) if self.arm in "cd" else (reduced, original)

    @property
    def epochs(self) -> int:
        """Of the training that the cell itself does."""
        return {"a": self.before + self.after, "b": self.before}.get(self.arm, self.after)

    def start(self, task: Task, parts: Parts, sources: tuple[SequenceModel, ...]) -> SequenceModel:
        """What it trains, or measures as it is."""
        if self.arm in "ab":
            return start_of(task, self.state, self.seed)
        if self.arm == "c":
            return papers_reduction(sources[0], self.state)
        return our_reduction(sources[0], parts, self.state) if self.arm == "d" else sources[0]

    def model(
        self, start: SequenceModel, parts: Parts, sources: tuple[SequenceModel, ...]
    ) -> SequenceModel:
        """What becomes of `start`."""
        if not self.epochs:
            return start
        settings = SCRATCH if self.arm in "ab" else FURTHER
        teacher = sources[-1] if self.arm == "f" else None
        return trained(start, parts, settings, self.epochs, self.seed, teacher)


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
