"""How to train."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from s4edge.errors import S4EdgeError

Task = Literal["classification", "regression", "next"]


@dataclass(frozen=True)
class TrainingSettings:
    """How to train; the defaults suit a reduced model that is trained on.

    Attributes:
        epochs: passes over the training data.
        task: "classification" (``y`` holds labels), "regression" (targets) or "next" (the next
            sample of ``x``); None for what ``y`` says.
        batch: sequences per step, in all processes together.
        rate: of dense layers and of the systems' weights.
        pole_rate: of decays and angles, in units of their own.
        step_rate: of step sizes.
        weight_decay: of dense weights.
        warmup: fraction of all steps.
        clip: largest norm of the gradient; 0 for any.
        dropout: rate, of whole features.
        patience: epochs without a better validation after which it ends; 0 for never.
        validation: fraction of the data held out where no validation data is given.
        distill: weight of the teacher's outputs in the loss, 0 to 1; labels have the rest.
        temperature: of the teacher's class probabilities; 0 compares outputs as numbers.
        match_layers: weight of what leaves each block, against the teacher's.
        hankel: weight of the Hankel nuclear norm.
        schedule: state sizes that the model is reduced to on the way, evenly over the epochs.
        seed: of orders and dropout.
        bfloat16: dense layers in bfloat16.
    """

    epochs: int
    task: Task | None = None
    batch: int = 32
    rate: float = 5e-3
    pole_rate: float = 5e-3
    step_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float = 1.0
    dropout: float = 0.0
    patience: int = 0
    validation: float = 0.1
    distill: float = 0.0
    temperature: float = 0.0
    match_layers: float = 0.0
    hankel: float = 0.0
    schedule: tuple[int, ...] = ()
    seed: int = 0
    bfloat16: bool = False

    def check(self) -> TrainingSettings:
        """Itself.

        Raises:
            S4EdgeError: a value is out of its range.
        """
        ranges: dict[str, tuple[float, float]] = {
            "epochs": (1, 1e6), "batch": (1, 1e6), "rate": (0, 10), "pole_rate": (0, 10),
            "step_rate": (0, 10), "weight_decay": (0, 10), "warmup": (0, 1), "clip": (0, 1e9),
            "dropout": (0, 0.95), "patience": (0, 1e6), "validation": (0, 0.9), "distill": (0, 1),
            "temperature": (0, 1e3), "match_layers": (0, 1e6), "hankel": (0, 1e6),
            "seed": (0, 2**31),
        }  # fmt: skip
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise S4EdgeError(f"{name} must be from {least:g} to {most:g}, got {value:g}")
        if any(after >= before for before, after in zip(self.schedule, self.schedule[1:])):  # noqa: B905
            raise S4EdgeError("the schedule's state sizes must fall, as 32,16,8")
        if len(self.schedule) >= self.epochs:
            raise S4EdgeError(
                f"{len(self.schedule)} reductions need more than {self.epochs} epochs"
            )
        return self

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return dataclasses.asdict(self)

    def size_before(self, epoch: int) -> int | None:
        """The state size to which the model is reduced before an epoch (from 0), or None."""
        parts = len(self.schedule) + 1
        for index, size in enumerate(self.schedule, 1):
            if epoch == max(round(index * self.epochs / parts), index):
                return size
        return None


def settings_of(*, epochs: int, has_teacher: bool, **options: Any) -> TrainingSettings:
    """TrainingSettings from a command's options; those that are None or unknown here are left out.

    With a teacher, its outputs take the place of labels unless ``distill`` says otherwise.

    Raises:
        S4EdgeError: a value is out of its range or no list of state sizes.
    """
    known = {each.name for each in dataclasses.fields(TrainingSettings)}
    given = {key: value for key, value in options.items() if key in known and value is not None}
    if has_teacher:
        given.setdefault("distill", 1.0)
    if isinstance(given.get("schedule"), str):
        try:
            given["schedule"] = tuple(int(size) for size in given["schedule"].split(","))
        except ValueError:
            raise S4EdgeError(
                f"the schedule {given['schedule']!r} is no list of state sizes, as 32,16,8"
            ) from None
    return TrainingSettings(epochs=epochs, **given).check()
