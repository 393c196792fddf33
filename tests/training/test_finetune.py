"""Training on tasks small enough to be learned in seconds, and runs that are interrupted."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s4edge.api import evaluate
from s4edge.compression.compress import compress_model
from s4edge.data.dataset import Data
from s4edge.errors import S4EdgeError
from s4edge.model.history import Compression, Training
from s4edge.model.sequence_model import SequenceModel
from s4edge.systems.balancing import hankel_singular_values
from s4edge.training.finetune import TrainingWatch, finetune_model
from s4edge.training.initial import initial_model
from s4edge.training.settings import TrainingSettings

SETTINGS = TrainingSettings(epochs=9, batch=16, rate=1e-2, pole_rate=1e-2, validation=0.2)


def tones(count: int = 240, seed: int = 0) -> Data:
    """Which of three frequencies is in the noise?"""
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=count)
    t = np.arange(40)
    x = np.cos((0.3 + 0.5 * y[:, None]) * t + rng.uniform(0, 6, (count, 1)))
    x = x + 0.5 * rng.normal(size=x.shape)
    return Data(x[:, :, None].astype(np.float32), y, None, "tones")


def start(outputs: int = 3, seed: int = 0, **options: Any) -> SequenceModel:
    return initial_model(
        1, outputs, d_model=8, layers=2, state=8, seed=seed, step_size=(0.05, 1), **options
    )


@pytest.fixture(scope="module")
def trained() -> SequenceModel:
    return finetune_model(start(), tones(), SETTINGS)


def test_learns_classes(trained: SequenceModel) -> None:
    test = tones(seed=1)
    assert evaluate(start(), test).value < 0.6
    assert evaluate(trained, test).value > 0.9
    assert isinstance(trained.provenance.history[-1], Training)


def test_learns_in_bfloat16() -> None:
    model = finetune_model(start(), tones(), dataclasses.replace(SETTINGS, bfloat16=True))
    assert model.encoder.get_parameter("weight").dtype == torch.float32
    assert evaluate(model, tones(seed=1)).value > 0.9


def test_learns_targets() -> None:
    data = tones()
    y = data.x.std(axis=1)
    data = dataclasses.replace(data, y=y)
    lines: list[dict[str, Any]] = []
    finetune_model(start(1), data, SETTINGS, watch=TrainingWatch(epoch=lines.append))
    assert lines[-1]["validation_loss"] < 0.3 * lines[0]["validation_loss"]


@pytest.mark.parametrize("tokens", [False, True])
def test_learns_the_next_sample(tokens: bool) -> None:
    if tokens:
        x = (np.arange(30)[None] + np.arange(60)[:, None]) % 5
        model = initial_model(
            5, 5, d_model=8, layers=1, state=4, seed=0, encoder="embedding", pooling="none"
        )
    else:
        x = np.cos(0.3 * np.arange(30)[None] + np.arange(60)[:, None])[:, :, None]
        x = x.astype(np.float32)
        model = start(1, pooling="none")
    lines: list[dict[str, Any]] = []
    settings = dataclasses.replace(SETTINGS, task="next")
    data = Data(x, None, None, "waves")
    finetune_model(model, data, settings, watch=TrainingWatch(epoch=lines.append))
    assert lines[-1]["validation_loss"] < 0.5 * lines[0]["validation_loss"]


def test_a_teacher_takes_the_place_of_labels(trained: SequenceModel) -> None:
    data = dataclasses.replace(tones(), y=None)
    small = compress_model(trained, 2)
    settings = dataclasses.replace(SETTINGS, distill=1.0, match_layers=0.5)
    x = torch.from_numpy(tones(seed=1).x)

    def distance(model: SequenceModel) -> float:
        with torch.no_grad():
            return float((model(x) - trained(x)).square().mean())

    after = finetune_model(small, data, settings, teacher=trained)
    assert distance(after) < 0.5 * distance(small)


def test_without_labels_the_teacher_is_all_of_the_loss() -> None:
    data = dataclasses.replace(tones(40), y=None)
    losses, settings = [], dataclasses.replace(SETTINGS, epochs=2)
    for distill in (0.25, 1.0):
        lines: list[dict[str, Any]] = []
        finetune_model(
            start(), data, dataclasses.replace(settings, distill=distill), teacher=start(seed=1),
            validation=data, watch=TrainingWatch(epoch=lines.append),
        )  # fmt: skip
        losses.append([line["validation_loss"] for line in lines])
    assert losses[0] == losses[1]
    x = torch.from_numpy(data.x)
    with torch.no_grad():
        ours, theirs = start()(x), start(seed=1)(x)
    expected = (ours - theirs).square().mean() / theirs.var()
    assert losses[0][0] == pytest.approx(float(expected), rel=1e-5)


def test_the_nuclear_norm_falls(trained: SequenceModel) -> None:
    def norm(model: SequenceModel) -> float:
        singular = [hankel_singular_values(each.systems.modes()) for each in model.blocks]
        return sum(float(each.sum()) for layer in singular for each in layer)

    settings = dataclasses.replace(SETTINGS, epochs=4, validation=0)
    plain = finetune_model(trained, tones(), settings)
    small = finetune_model(trained, tones(), dataclasses.replace(settings, hankel=1.0))
    assert norm(small) < 0.7 * min(norm(plain), norm(trained))


def test_reduction_on_the_way(trained: SequenceModel) -> None:
    lines: list[dict[str, Any]] = []
    settings = dataclasses.replace(SETTINGS, schedule=(4, 2))
    watch = TrainingWatch(epoch=lines.append)
    small = finetune_model(trained, tones(), settings, reduce=compress_model, watch=watch)
    assert [line.get("real_states") for line in lines[1:]] == [128] * 3 + [64] * 3 + [32] * 3
    assert small.config.real_states == 32
    assert sum(isinstance(entry, Compression) for entry in small.provenance.history) == 2
    assert evaluate(small, tones(seed=1)).value > 0.9


def test_the_best_epoch_is_kept() -> None:
    lines: list[dict[str, Any]] = []
    settings = dataclasses.replace(SETTINGS, rate=0.3, epochs=5)
    data = tones()
    model = finetune_model(
        start(), data, settings, validation=tones(seed=1), watch=TrainingWatch(epoch=lines.append)
    )
    best = max(line["accuracy"] for line in lines)
    assert evaluate(model, tones(seed=1)).value == pytest.approx(best)
    assert lines[model.provenance.history[-1].best_epoch]["accuracy"] == best


def test_it_ends_when_nothing_gets_better(trained: SequenceModel) -> None:
    settings = dataclasses.replace(SETTINGS, rate=0.0, pole_rate=0.0, step_rate=0.0, patience=2)
    model = finetune_model(trained, tones(), settings)
    assert model.provenance.history[-1].epochs == 2
    for name, tensor in trained.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_in_parts_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data, settings = tones(48), dataclasses.replace(SETTINGS, epochs=2, dropout=0.2)
    lines: list[list[dict[str, Any]]] = [[], []]
    for size, log in zip((1 << 30, 5 * 40 * 8), lines, strict=True):
        monkeypatch.setattr("s4edge.training.trainable._PART", size)  # all, or 5 sequences a part
        finetune_model(start(), data, settings, watch=TrainingWatch(epoch=log.append))
    for whole, parts in zip(*lines, strict=True):
        assert parts["validation_loss"] == pytest.approx(whole["validation_loss"], rel=1e-4)


class StoppedError(Exception):
    pass


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dropout": 0.2},
        {"hankel": 0.01},
        {"schedule": (4,)},
        {"patience": 5, "validation": 0},
        {"dropout": 0.2, "hankel": 0.1, "schedule": (4, 2), "distill": 0.5, "match_layers": 0.5},
    ],
    ids=str,
)
def test_an_interrupted_run_goes_on_to_the_same_bits(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    data, settings = tones(48), dataclasses.replace(SETTINGS, epochs=4, **changes)
    teacher = start() if settings.distill else None

    def run(name: str, stop: int | None = None, resume: bool = False) -> SequenceModel:
        def epoch(line: dict[str, Any]) -> None:
            if stop is not None and line["epoch"] > stop:
                raise StoppedError

        watch = TrainingWatch(
            epoch=epoch, state=tmp_path / f"{name}.run", log=tmp_path / name, resume=resume
        )
        return finetune_model(
            start(), data, settings, teacher=teacher, reduce=compress_model, watch=watch
        )

    def log_of(name: str) -> list[dict[str, Any]]:
        lines = map(json.loads, (tmp_path / name).read_text().splitlines())
        return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]

    whole = run("whole")
    assert [line["epoch"] for line in log_of("whole")] == list(range(5))
    for after in (0, 1, 3):
        with pytest.raises(StoppedError):
            run("cut", stop=after)
        assert [line["epoch"] for line in log_of("cut")] == list(range(after + 1))
        resumed = run("cut", resume=True)
        assert resumed.config == whole.config
        assert resumed.provenance.history == whole.provenance.history
        for name, tensor in whole.state_dict().items():
            assert torch.equal(resumed.state_dict()[name], tensor), name
        assert log_of("cut") == log_of("whole")


def test_a_run_that_was_done_already_is_its_result(tmp_path: Path) -> None:
    data, settings = tones(32), dataclasses.replace(SETTINGS, epochs=2)
    watch = TrainingWatch(state=tmp_path / "run")
    whole = finetune_model(start(), data, settings, watch=watch)
    again = finetune_model(start(), data, settings, watch=dataclasses.replace(watch, resume=True))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.parametrize("distill", [0.5, 1.0])
def test_data_that_change_every_epoch_keep_their_teacher(distill: float) -> None:
    data, settings = tones(32), dataclasses.replace(SETTINGS, epochs=2, distill=distill)
    if distill == 1:
        data = dataclasses.replace(data, y=None)
    logs: list[list[dict[str, Any]]] = [[], []]
    for log, every_epoch in zip(logs, (None, lambda epoch: data), strict=True):
        finetune_model(
            start(), data, settings, validation=data, teacher=start(),
            every_epoch=every_epoch, watch=TrainingWatch(epoch=log.append),
        )  # fmt: skip
    assert [line.get("loss") for line in logs[0]] == [line.get("loss") for line in logs[1]]


def test_what_cannot_be_resumed(tmp_path: Path) -> None:
    data, state = tones(32), tmp_path / "state"
    watch = TrainingWatch(state=state, resume=True)
    with pytest.raises(S4EdgeError, match="nothing to resume"):
        finetune_model(start(), data, SETTINGS, watch=watch)
    once = dataclasses.replace(SETTINGS, epochs=1)
    finetune_model(start(), data, once, watch=TrainingWatch(state=state))
    with pytest.raises(S4EdgeError, match="batch differ"):
        finetune_model(start(), data, dataclasses.replace(once, batch=8), watch=watch)
    with pytest.raises(S4EdgeError, match="data differ"):
        finetune_model(start(), tones(33), once, watch=watch)
    with pytest.raises(S4EdgeError, match="model differ"):
        finetune_model(start(seed=1), data, once, watch=watch)
    with pytest.raises(S4EdgeError, match="validation data differ"):
        finetune_model(start(), data, once, validation=data, watch=watch)
    whole = state.read_bytes()
    torch.save({"format": 2, "json": "{}"}, tmp_path / "other")
    other = (tmp_path / "other").read_bytes()
    for damaged in (whole[:1000], whole[:-100], b"", b"no run", other):
        state.write_bytes(damaged)
        with pytest.raises(S4EdgeError, match="no readable run") as caught:
            finetune_model(start(), data, once, watch=watch)
        assert "\n" not in str(caught.value)
        assert state.read_bytes() == damaged


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epochs": 0}, "epochs must be from 1"),
        ({"dropout": 1.0}, "dropout must be from 0 to 0.95"),
        ({"schedule": (2, 4)}, "must fall"),
        ({"schedule": (4, 2), "epochs": 2}, "2 reductions need more than 2 epochs"),
        ({"distill": 0.5}, "needs a teacher"),
        ({"task": "next"}, "pooling mean"),
        ({"rate": 10.0, "clip": 0.0}, "diverged in epoch"),
    ],
)
def test_refused(changes: dict[str, Any], says: str) -> None:
    data = tones(32)
    if "diverged" in says:
        data = dataclasses.replace(data, x=data.x * 1e38)
    with pytest.raises(S4EdgeError, match=says) as caught:
        finetune_model(start(), data, dataclasses.replace(SETTINGS, **changes))
    assert "\n" not in str(caught.value)


def test_a_teacher_of_another_kind(trained: SequenceModel) -> None:
    settings = dataclasses.replace(SETTINGS, distill=1.0)
    with pytest.raises(S4EdgeError, match="the teacher's d_output is 2, the model's 3"):
        finetune_model(trained, tones(32), settings, teacher=start(2))
    no_labels = dataclasses.replace(tones(32), y=None)
    with pytest.raises(S4EdgeError, match="give labels, a teacher"):
        finetune_model(trained, no_labels, SETTINGS)
