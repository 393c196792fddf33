"""Losses against plain formulas, whole and shared by processes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from models_by_hand import random_model
from torch.nn import functional as F  # noqa: N812

from s4edge.data.dataset import Data
from s4edge.errors import S4EdgeError
from s4edge.training.batches import Sequences
from s4edge.training.objective import Objective, find_task
from s4edge.training.processes import Processes
from s4edge.training.settings import TrainingSettings

SETTINGS = TrainingSettings(epochs=1)
COUNT, LENGTH = 5, 7


def batch_of(y, lengths=None, aim=None, processes=None, tokens=False):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(COUNT, LENGTH, 3)).astype(np.float32)
    if tokens:
        x = rng.integers(3, size=(COUNT, LENGTH))
    data = Sequences.of(Data(x, y, lengths, "test"), aim)
    return data.batch(np.arange(COUNT), processes or Processes())


def test_classes() -> None:
    y, scores = np.arange(COUNT) % 3, torch.randn(COUNT, 3)
    found = Objective("classification", SETTINGS).loss(batch_of(y), scores, [])
    torch.testing.assert_close(found, F.cross_entropy(scores, torch.from_numpy(y)))


def test_a_class_per_sample_and_padding() -> None:
    y = np.random.default_rng(1).integers(3, size=(COUNT, LENGTH))
    lengths = np.array([1, 7, 3, 4, 2])
    scores = torch.randn(COUNT, LENGTH, 3)
    found = Objective("classification", SETTINGS).loss(batch_of(y, lengths), scores, [])
    counted = torch.arange(LENGTH) < torch.from_numpy(lengths)[:, None]
    expected = F.cross_entropy(scores[counted], torch.from_numpy(y)[counted])
    torch.testing.assert_close(found, expected)


def test_targets() -> None:
    y = np.random.default_rng(1).normal(size=(COUNT, 2))
    output = torch.randn(COUNT, 2)
    found = Objective("regression", SETTINGS).loss(batch_of(y), output, [])
    torch.testing.assert_close(found, F.mse_loss(output, torch.from_numpy(y).float()))


@pytest.mark.parametrize("tokens", [False, True])
def test_the_next_sample(tokens: bool) -> None:
    batch, output = batch_of(None, tokens=tokens), torch.randn(COUNT, LENGTH, 3)
    found = Objective("next", SETTINGS).loss(batch, output, [])
    follows = batch.x[:, 1:]
    expected = (
        F.cross_entropy(output[:, :-1].reshape(-1, 3), follows.reshape(-1))
        if tokens
        else F.mse_loss(output[:, :-1], follows)
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("tokens", [False, True])
def test_the_next_sample_of_padded_sequences(tokens: bool) -> None:
    lengths = np.array([1, 7, 3, 4, 2])
    batch, output = batch_of(None, lengths, tokens=tokens), torch.randn(COUNT, LENGTH, 3)
    found = Objective("next", SETTINGS).loss(batch, output, [])
    guesses = torch.cat([output[i, : n - 1] for i, n in enumerate(lengths)])
    follows = torch.cat([batch.x[i, 1:n] for i, n in enumerate(lengths)])
    expected = (F.cross_entropy if tokens else F.mse_loss)(guesses, follows)
    torch.testing.assert_close(found, expected)


def test_no_next_sample_at_all() -> None:
    batch = batch_of(None, np.ones(COUNT, np.int64))
    assert Objective("next", SETTINGS).loss(batch, torch.randn(COUNT, LENGTH, 3), []).item() == 0


def test_targets_per_sample_and_padding() -> None:
    y = np.random.default_rng(1).normal(size=(COUNT, LENGTH, 2))
    lengths = np.array([1, 7, 3, 4, 2])
    output = torch.randn(COUNT, LENGTH, 2)
    found = Objective("regression", SETTINGS).loss(batch_of(y, lengths), output, [])
    counted = torch.arange(LENGTH) < torch.from_numpy(lengths)[:, None]
    expected = F.mse_loss(output[counted], torch.from_numpy(y).float()[counted])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("heat", [0.0, 2.0])
def test_a_teacher_on_padded_sequences_beside_labels(heat: float) -> None:
    y = np.random.default_rng(1).integers(3, size=(COUNT, LENGTH))
    lengths = np.array([1, 7, 3, 4, 2])
    output, aim = torch.randn(COUNT, LENGTH, 3), torch.randn(COUNT, LENGTH, 3)
    settings = dataclasses.replace(SETTINGS, distill=0.3, temperature=heat)
    objective = Objective("classification", settings, power=2.0)
    found = objective.loss(batch_of(y, lengths, aim), output, [])
    counted = torch.arange(LENGTH) < torch.from_numpy(lengths)[:, None]
    ours, theirs = output[counted], aim[counted]
    labelled = F.cross_entropy(ours, torch.from_numpy(y)[counted])
    distance = F.mse_loss(ours, theirs) / 2
    if heat:
        p, q = (theirs / heat).softmax(-1), (ours / heat).softmax(-1)
        distance = heat**2 * (p * (p / q).log()).sum(-1).mean()
    torch.testing.assert_close(found, 0.7 * labelled + 0.3 * distance)


def test_a_teacher_in_numbers_and_at_a_temperature() -> None:
    aim, output = torch.randn(COUNT, 3), torch.randn(COUNT, 3)
    batch = batch_of(None, aim=aim)
    only = dataclasses.replace(SETTINGS, distill=1.0)
    found = Objective(None, only, power=2.0).loss(batch, output, [])
    torch.testing.assert_close(found, F.mse_loss(output, aim) / 2)
    warm = dataclasses.replace(only, temperature=3.0)
    found = Objective(None, warm).loss(batch, output, [])
    expected = 9 * F.kl_div(
        (output / 3).log_softmax(-1), (aim / 3).softmax(-1), reduction="batchmean"
    )
    torch.testing.assert_close(found, expected)


def test_layers() -> None:
    left, aims = ([torch.randn(COUNT, LENGTH, 4) for _ in range(2)] for _ in range(2))
    settings = dataclasses.replace(SETTINGS, match_layers=0.5)
    found = Objective(None, settings, layer_powers=(1.0, 4.0)).loss(
        batch_of(None), torch.zeros(COUNT, 3), left, aims
    )
    expected = 0.25 * (F.mse_loss(left[0], aims[0]) + F.mse_loss(left[1], aims[1]) / 4)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("world", [2, 3, 8])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("task", ["classification", "regression", "next", None])
def test_processes_add_up(task, padded: bool, world: int) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(1)
    y = rng.integers(3, size=(COUNT, LENGTH))
    if task == "regression":
        y = rng.normal(size=(COUNT, LENGTH, 3))
    lengths = np.array([1, 7, 3, 4, 2]) if padded else None
    output, aim = torch.randn(COUNT, LENGTH, 3), torch.randn(COUNT, LENGTH, 3)
    left, aims = ([torch.randn(COUNT, LENGTH, 4) for _ in range(2)] for _ in range(2))
    settings = dataclasses.replace(SETTINGS, distill=0.3, match_layers=0.4)
    objective = Objective(task, settings, 2.0, (1.0, 3.0))
    whole = objective.loss(batch_of(y, lengths, aim), output, left, aims)
    parts = []
    for rank in range(world):
        batch = batch_of(y, lengths, aim, Processes(rank, world))
        mine = [[each[batch.rows] for each in some] for some in (left, aims)]
        parts.append(objective.loss(batch, output[batch.rows], *mine))
    torch.testing.assert_close(torch.stack(parts).sum(), whole, rtol=1e-6, atol=1e-6)


ARRAYS = {
    "labels": np.zeros(COUNT, np.int64),
    "far labels": np.full(COUNT, 3),
    "targets": np.zeros((COUNT, 3)),
    "odd": np.zeros((COUNT, 2, 2)),
    "none": None,
    "nan": np.full((COUNT, 3), np.nan),
}


@pytest.mark.parametrize(
    ("y", "asked", "says"),
    [
        ("labels", None, "classification"),
        ("targets", None, "regression"),
        ("none", None, None),
        ("labels", "regression", "takes"),
        ("targets", "classification", "labels are whole numbers"),
        ("far labels", None, "has 3 classes"),
        ("odd", None, "y has shape"),
        ("none", "classification", "holds no 'y'"),
        ("nan", None, "NaN"),
        ("none", "next", "pooling mean"),
    ],
)
def test_which_task(y: str, asked, says) -> None:  # type: ignore[no-untyped-def]
    data = Data(np.zeros((COUNT, LENGTH, 2), np.float32), ARRAYS[y], None, "test")
    config = random_model().config
    if says in ("classification", "regression", None):
        assert find_task(data, config, asked) == says
        return
    with pytest.raises(S4EdgeError, match=says) as caught:
        find_task(data, config, asked)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("length", "outputs", "says"), [(1, 2, "have no next one"), (4, 3, "must give 2 outputs")]
)
def test_no_next_task(length: int, outputs: int, says: str) -> None:
    data = Data(np.zeros((COUNT, length, 2), np.float32), None, None, "test")
    config = random_model(pooling="none").config
    with pytest.raises(S4EdgeError, match=says) as caught:
        find_task(data, dataclasses.replace(config, d_output=outputs), "next")
    assert "\n" not in str(caught.value)
