"""What stands behind a sequence's end counts in no score."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from s4edge.data.dataset import Data
from s4edge.errors import S4EdgeError
from s4edge.model.sequence_model import SequenceModel
from s4edge.training.evaluate import evaluate_model, predict
from s4edge.training.finetune import TrainingWatch, finetune_model
from s4edge.training.initial import initial_model
from s4edge.training.settings import TrainingSettings

LENGTHS = np.array([3, 17, 9, 12, 17, 1, 6, 15])


def padded(y: np.ndarray | None = None) -> Data:
    """Eight sequences with large numbers behind their ends."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((len(LENGTHS), 17, 2)).astype(np.float32)
    for row, end in zip(x, LENGTHS, strict=True):
        row[end:] = 50 * rng.standard_normal(row[end:].shape)
    return Data(x, y, LENGTHS, "padded")


def one_by_one(model: SequenceModel, data: Data) -> list[np.ndarray]:
    """The output on each sequence cut at its end."""
    with torch.no_grad():
        return [
            model(torch.from_numpy(row[None, :end])).numpy()[0]
            for row, end in zip(data.x, LENGTHS, strict=True)
        ]


def model_of(**changes: Any) -> SequenceModel:
    model = initial_model(2, 3, d_model=6, layers=2, state=8, seed=0, step_size=(0.05, 1))
    out = SequenceModel(dataclasses.replace(model.config, **changes))
    out.load_state_dict(model.state_dict())
    return out.eval()


def test_outputs_and_accuracy_of_whole_sequences() -> None:
    model, labels = model_of(), np.array([0, 1, 2, 0, 1, 2, 0, 1])
    data = padded(labels)
    alone = np.stack(one_by_one(model, data))
    np.testing.assert_allclose(predict(model, data), alone, atol=1e-5)
    expected = float((alone.argmax(axis=1) == labels).mean())
    whole = predict(model, dataclasses.replace(data, lengths=None))
    assert not np.allclose(whole, alone, atol=1e-2)  # padding would have been felt
    assert evaluate_model(model, data).value == expected


def looking_ahead(pooling: str) -> SequenceModel:
    """A layer of the kind that reads a sequence from its end, too."""
    torch.manual_seed(0)
    out = model_of(pooling=pooling)
    systems = out.config.blocks[0].systems
    blocks = tuple(dataclasses.replace(each, backward=systems) for each in out.config.blocks)
    model = SequenceModel(dataclasses.replace(out.config, blocks=blocks))
    model.load_state_dict(out.state_dict(), strict=False)
    for mine, its in zip(model.blocks, out.blocks, strict=True):
        assert mine.backward_systems is not None
        mine.backward_systems.load_state_dict(its.systems.state_dict())
    return model.eval()


def test_a_model_that_looks_ahead_takes_sequences_by_length() -> None:
    model, data = looking_ahead("mean"), padded()
    done: list[float] = []
    np.testing.assert_allclose(
        predict(model, data, done.append), np.stack(one_by_one(model, data)), atol=1e-5
    )
    assert done == sorted(done)
    assert done[-1] == 1
    with pytest.raises(S4EdgeError, match="must be of one length"):
        predict(looking_ahead("none"), data)
    alike = dataclasses.replace(data, lengths=np.full(len(LENGTHS), 12))
    expected = predict(looking_ahead("none"), Data(data.x[:, :12], None, None, "cut"))
    np.testing.assert_allclose(predict(looking_ahead("none"), alike), expected, atol=1e-5)


@pytest.mark.parametrize("pooling", ["none", "mean"])
def test_validation(pooling: str) -> None:
    """The accuracy and the loss before the first epoch."""
    model = model_of(pooling=pooling)
    per_sample = pooling == "none"
    alone = one_by_one(model, padded())
    # Right everywhere within the sequences; behind their ends, where they count, always wrong.
    right = [y.argmax(axis=-1) for y in alone]
    if per_sample:
        shape = (len(LENGTHS), 17)
        y = predict(model, dataclasses.replace(padded(), lengths=None)).argmin(axis=-1)
        assert y.shape == shape
        for row, its, end in zip(y, right, LENGTHS, strict=True):
            row[:end] = its
        y[1, 4] = alone[1][4].argmin()
        expected = (LENGTHS.sum() - 1) / LENGTHS.sum()
    else:
        y = np.array(right)
        y[1] = alone[1].argmin()
        expected = (len(LENGTHS) - 1) / len(LENGTHS)
    data = padded(y)
    lines: list[dict[str, Any]] = []
    settings = TrainingSettings(epochs=1, batch=3)
    finetune_model(model, data, settings, validation=data, watch=TrainingWatch(epoch=lines.append))
    assert lines[0]["accuracy"] == pytest.approx(expected)
    score = evaluate_model(model, data)
    assert (score.metric, score.value) == ("accuracy", pytest.approx(expected))
