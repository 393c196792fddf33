"""Strides chosen one by one: where the output's error grows least for the work that it saves."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from s4edge.compression.rates.slowing import Strides, check_can_slow, slowed
from s4edge.errors import S4EdgeError
from s4edge.model.costs import multiply_adds
from s4edge.model.sequence_model import SequenceModel
from s4edge.progress import Progress

# A factor that a stride grows by, and windows that a sequence must have.
_FACTOR, _FEWEST_WINDOWS = 2, 4
# Less than this share of a model's work is worth no error.
_LEAST_SAVED = 1e-3
# Squared relative errors below it are rounding.
_NO_ERROR = 1e-12


@dataclass(frozen=True)
class Point:
    """A choice that was tried.

    Attributes:
        strides: of it.
        model: with them.
        multiply_adds: per input sample.
        error: relative, of the output.
    """

    strides: Strides
    model: SequenceModel
    multiply_adds: int
    error: float


def choose(
    model: SequenceModel,
    error_of: Callable[[SequenceModel], float],
    samples: int,
    *,
    most_error: float | None,
    budget: int | None,
    progress: Progress,
) -> Strides:
    """Double strides one after another.

    Args:
        model: as it is.
        error_of: relative error of a model's output.
        samples: of the shortest sequence.
        most_error: that the output may have, or None.
        budget: multiply-adds per input sample to get down to, or None for as far as the error
            allows.
        progress: called with the fraction done.

    Raises:
        S4EdgeError: the budget is not met within the error, or by windows that a few of fit a
            sequence; the nearest model is named.
    """
    whole = multiply_adds(model)
    at = Point(Strides(1, (1,) * len(model.blocks)), model, whole, 0.0)
    tried: dict[Strides, Point] = {}
    while budget is None or at.multiply_adds > budget:
        options = []
        for strides in _next(at.strides):
            if strides not in tried:
                if not _fits(model, strides, samples):
                    continue
                small = slowed(model, strides)
                tried[strides] = Point(strides, small, multiply_adds(small), error_of(small))
            point = tried[strides]
            saved = at.multiply_adds - point.multiply_adds
            allowed = most_error is None or point.error <= most_error
            if allowed and saved > _LEAST_SAVED * whole:
                options.append((_grown(at, point) / saved, point))
        if not options:
            break
        _, at = min(options, key=lambda option: option[0])
        aim = whole / 20 if budget is None else budget
        progress(min(1.0, (whole - at.multiply_adds) / max(whole - aim, 1)))
    if budget is not None and at.multiply_adds > budget:
        raise S4EdgeError(
            f"no strides bring the model down to {budget:,} multiply-adds per sample: the nearest "
            f"is --rate {at.strides} with {at.multiply_adds:,}, where the output differs by "
            f"{at.error:.1%}"
        )
    progress(1)
    return at.strides


def _next(strides: Strides) -> Iterator[Strides]:
    """With one stride larger; that behind the last layer saves next to nothing."""
    yield dataclasses.replace(strides, input=_FACTOR * strides.input)
    for index in range(len(strides.layers) - 1):
        layers = list(strides.layers)
        layers[index] *= _FACTOR
        yield dataclasses.replace(strides, layers=tuple(layers))


def _fits(model: SequenceModel, strides: Strides, samples: int) -> bool:
    if samples < _FEWEST_WINDOWS * strides.total * model.config.stride:
        return False
    try:
        check_can_slow(model.config, strides)
    except S4EdgeError:
        return False
    return True


def _grown(before: Point, after: Point) -> float:
    """By how much the squared error grows: squares of errors add up."""
    return max(after.error**2 - before.error**2, _NO_ERROR)
