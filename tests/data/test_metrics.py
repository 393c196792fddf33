"""Accuracy and mean squared error against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from s4edge.data.dataset import Data
from s4edge.data.metrics import Score, score
from s4edge.errors import S4EdgeError

NAN = float("nan")


def data(samples: int, y: object, lengths: object = None, length: int = 3) -> Data:
    return Data(
        np.zeros((samples, length, 1), np.float32),
        None if y is None else np.asarray(y),
        None if lengths is None else np.asarray(lengths),
        "the data",
    )


def test_accuracy() -> None:
    outputs = np.array([[0.1, 0.7, 0.2], [3, -1, 2], [0, 0, 1], [1, 5, 4]])
    assert score(outputs, data(4, [1, 0, 2, 2])) == Score("accuracy", 0.75, 4)
    assert score(outputs, data(4, np.array([1, 0, 2, 2], np.uint8))).value == 0.75


def test_lengths_do_not_matter_where_the_model_pools() -> None:
    outputs = np.array([[1.0, 2], [2, 1]])
    assert score(outputs, data(2, [1, 1], [1, 3])) == Score("accuracy", 0.5, 2)


def test_squared_error() -> None:
    outputs = np.array([[1.0, 2], [3, 5]])
    # (0 + 4 + 1 + 0) / 4
    assert score(outputs, data(2, [[1.0, 0], [2, 5]])) == Score("mse", 1.25, 2)


def test_labels_at_every_step() -> None:
    outputs = np.zeros((2, 3, 2))
    outputs[0, :, 1] = 1, 1, -1  # classes 1 1 0
    outputs[1, :, 1] = -1, 1, 1  # classes 0 1 1
    y = [[1, 0, 0], [0, 1, 0]]
    assert score(outputs, data(2, y)) == Score("accuracy", pytest.approx(4 / 6), 2)
    # Counted: 1 1 against 1 0, and 0 against 0.
    assert score(outputs, data(2, y, [2, 1])) == Score("accuracy", pytest.approx(2 / 3), 2)


def test_targets_at_every_step() -> None:
    outputs = np.array([[[1.0], [2], [9]], [[4], [9], [9]]])
    y = [[[0.0], [0], [0]], [[2], [0], [0]]]
    # (1 + 4) and 4, not the mean of the sequences' means.
    assert score(outputs, data(2, y, [2, 1])) == Score("mse", 3.0, 2)
    assert score(outputs, data(2, y)).value == pytest.approx((1 + 4 + 81 + 4 + 81 + 81) / 6)


def test_what_stands_after_the_end_does_not_count() -> None:
    """Padding by the customary -100, or by nothing at all."""
    outputs = np.zeros((1, 3, 2))
    outputs[0, 0, 1] = 1
    assert score(outputs, data(1, [[1, -100, -100]], [1])).value == 1
    assert score(outputs, data(1, [[[1.0, 1], [NAN, NAN], [NAN, NAN]]], [1])).value == 0.5


def test_no_precision_is_lost() -> None:
    """Sums of many float32 are formed in float64."""
    outputs = np.full((200_000, 1), 1e-3, np.float32)
    expected = float(np.float32(1e-3)) ** 2
    found = score(outputs, data(200_000, np.zeros((200_000, 1), np.float32), length=1)).value
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("outputs", "y", "says"),
    [
        (np.zeros((2, 3)), None, "the data holds no 'y'"),
        (np.zeros((2, 3)), [0, 3], "labels run from 0 to 3, the model has 3 classes"),
        (np.zeros((2, 3)), [-1, 0], "labels run from -1 to 0, the model has 3 classes"),
        (np.zeros((2, 3)), [[0, 1, 2], [0, 1, 2]], r"y has shape \(2, 3\), .* ask for \(2,\)"),
        (np.zeros((2, 3)), [0.5, 1], r"ask for \(2, 3\) \(labels are whole numbers\)"),
        (np.zeros((2, 3)), [[0.5], [1]], r"y has shape \(2, 1\), .* ask for \(2, 3\)"),
        (np.zeros((2, 4, 3)), [0, 1], r"y has shape \(2,\), .* ask for \(2, 4\)"),
        (np.full((2, 3), NAN), [0, 1], "outputs on the data are NaN or infinite"),
        (np.zeros((2, 1)), [[NAN], [1]], "y holds NaN or infinite"),
    ],
)
def test_refused(outputs: np.ndarray, y: object, says: str) -> None:
    with pytest.raises(S4EdgeError, match=says):
        score(outputs, data(2, y))
