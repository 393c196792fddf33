"""The step of compression that makes dense layers products of two matrices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from s4edge.compression.counts import is_count
from s4edge.compression.dense.fitting import Fitted, Ranks, fitted
from s4edge.compression.dense.places import Place, places_of
from s4edge.compression.dense.ranks import Spending, spending
from s4edge.compression.dense.seen import predict
from s4edge.compression.result import Compressed
from s4edge.compression.samples import FITTED, GRADIENTS, MEASURED, some_sequences
from s4edge.compression.states.calibration import Calibration, output_on, working_copy
from s4edge.compression.states.observed import output_energy, relative_error, same_class
from s4edge.errors import S4EdgeError
from s4edge.model.costs import multiply_adds
from s4edge.model.history import FactoredLayer, OutputError, RankReduction
from s4edge.model.sequence_model import SequenceModel
from s4edge.progress import Progress, part_of, silent


@dataclass(frozen=True)
class ReduceRank:
    """What is asked of the dense layers of a model's blocks; one of the three.

    Attributes:
        rank: of every layer that then takes fewer multiply-adds; others stay as they are.
        fraction: of the multiply-adds of all these layers, which to get down to; spent over layers
            where the model's output needs it.
        tolerance: the relative error of the model's output on the calibration data, ``|y - y'| /
            |y|``, to stay under with as few multiply-adds as possible.
    """

    rank: int | None = None
    fraction: float | None = None
    tolerance: float | None = None

    def check(self, model: SequenceModel) -> None:
        """Raise S4EdgeError unless one of them is given, in its range, and suits the model."""
        given = [each for each in (self.rank, self.fraction, self.tolerance) if each is not None]
        if len(given) != 1:
            raise S4EdgeError("give either a rank, or a fraction of multiply-adds, or a tolerance")
        for what, value in (
            ("the fraction of the dense layers' multiply-adds", self.fraction),
            ("the error that ranks may cost", self.tolerance),
        ):
            if value is not None and not 0 < value < 1:
                raise S4EdgeError(f"{what} is between 0 and 1, got {value:g}")
        if self.rank is not None and not is_count(self.rank):
            raise S4EdgeError(f"a rank is a whole number from 1 up, got {self.rank}")
        places = worth_it(model)
        if not places:
            raise S4EdgeError(
                "no dense layer of a block would take fewer multiply-adds as a product of two: "
                "there is no rank to reduce"
            )
        if self.rank is not None and self.rank > max(each.largest_rank for each in places):
            best = max(places, key=lambda each: each.largest_rank)
            raise S4EdgeError(
                f"the rank {self.rank} saves nothing: {best.layer}: {best.name} of {best.columns} "
                f"-> {best.rows} features takes fewer multiply-adds up to the rank "
                f"{best.largest_rank}, no other layer up to more"
            )


def reduce_rank(
    model: SequenceModel,
    step: ReduceRank,
    calibration: Calibration | None = None,
    progress: Progress = silent,
) -> Compressed:
    """Make dense layers of a copy of a model products of two matrices, where that takes less.

    The products are the closest ones for the inputs that layers have on calibration data
    (`s4edge.compression.dense.factors`). The copy's ``provenance.history`` tells the errors of each
    layer and of the output, predicted and measured.

    Args:
        model: left as it is.
        step: which ranks.
        calibration: sequences, without labels; needed.
        progress: called with the fraction done.

    Raises:
        S4EdgeError: ``step`` does not suit the model, there is no calibration, the model's output
            there is zero, NaN or infinite, or no choice meets what is asked for.
    """
    step.check(model)
    if calibration is None:
        raise S4EdgeError("ranks are chosen by the layers' inputs: add --calibrate DATA")
    data = _Data(model, calibration, part_of(progress, 0, 3))
    ranks = data.ranks(step, part_of(progress, 1, 3))
    done = fitted(model, ranks, data.predicted, data.sample, data.sample_output)
    small = done.model
    y = output_on(done.working, data.calibration)
    layers = list(_layers(data, ranks, done))
    error = OutputError(
        predicted=layers[-1].output_error.predicted,
        measured=relative_error(y, data.output),
        same_class=same_class(data.output, y),
    )
    small.provenance.history.append(
        RankReduction(
            rank=step.rank,
            fraction=step.fraction,
            tolerance=step.tolerance,
            multiply_adds_before=multiply_adds(model),
            multiply_adds_after=multiply_adds(small),
            calibration=data.calibration.told(),
            output_error=error,
            layers=tuple(layers),
        )
    )
    progress(1)
    return Compressed(small)


class _Data:
    """A model on calibration data.

    Attributes:
        model: as it is.
        calibration: sequences that the output's error is measured on.
        output: of the model on them.
        sample: those that layers are fitted to.
        sample_output: of the model on them.
        predicted: of every layer that could take less.
    """

    def __init__(self, model: SequenceModel, calibration: Calibration, progress: Progress) -> None:
        working, places = working_copy(model), worth_it(model)
        self.model = model
        self.calibration = some_sequences(model, calibration, MEASURED)
        self.output = output_on(working, self.calibration)
        energy = output_energy(self.output, calibration)
        progress(0.2)
        self.sample = some_sequences(model, calibration, FITTED)
        self.sample_output = output_on(working, self.sample)
        progress(0.3)
        few = some_sequences(model, calibration, GRADIENTS)
        found = predict(working, places, few, energy)
        self.predicted = dict(zip(places, found, strict=True))
        progress(1)

    def ranks(self, step: ReduceRank, progress: Progress) -> Ranks:
        """That were asked for. Raises S4EdgeError where no ranks meet it."""
        if step.rank is not None:
            progress(1)
            rank = int(step.rank)
            return {each: rank for each in self.predicted if rank <= each.largest_rank}
        spent = spending(self.model.config, self.predicted)
        if step.fraction is not None:
            progress(1)
            return self._within(spent, step.fraction)
        assert step.tolerance is not None
        return self._to_tolerance(spent, step.tolerance, progress)

    def _within(self, spent: Spending, fraction: float) -> Ranks:
        least = spent.walk.total[0] / spent.total
        if fraction < least:
            raise S4EdgeError(
                f"ranks of 1 take {least:.2%} of the dense layers' multiply-adds: a fraction of "
                f"{fraction:g} is too small"
            )
        return spent.ranks_within(int(fraction * spent.total))

    def _to_tolerance(self, spent: Spending, tolerance: float, progress: Progress) -> Ranks:
        """Those of the smallest total whose measured error is at most the tolerance.

        Totals of the walk are halved: more multiply-adds lose less, but for rounding.
        """
        totals = [int(total) for total in spent.walk.total if total < spent.total]
        low, high, best = 0, len(totals), None
        rounds = max(1, len(totals).bit_length())
        for count in range(rounds):
            if low >= high:
                break
            middle = (low + high) // 2
            ranks = spent.ranks_within(totals[middle])
            done = fitted(self.model, ranks, self.predicted, self.sample)
            if relative_error(output_on(done.working, self.calibration), self.output) <= tolerance:
                best, high = ranks, middle
            else:
                low = middle + 1
            progress((count + 1) / rounds)
        if best is None:
            raise S4EdgeError(
                f"no product of two keeps the output's error under {tolerance:g}: give a larger one"
            )
        return best


def worth_it(model: SequenceModel) -> list[Place]:
    """Dense layers that would take fewer multiply-adds at some rank."""
    return [each for each in places_of(model) if each.largest_rank >= 1]


def _layers(data: _Data, ranks: Ranks, done: Fitted) -> Iterator[FactoredLayer]:
    """Of all layers that could take less, in the model's order."""
    predicted = 0.0
    for place, lost in data.predicted.items():
        rank = ranks.get(place)
        if rank is not None:
            predicted += float(lost.output[rank])
        yield FactoredLayer(
            name=place.layer,
            dense=place.name,
            columns=place.columns,
            rows=place.rows,
            rank_before=place.rank,
            rank=place.rank if rank is None else rank,
            multiply_adds_before=round(place.whole_cost / place.period),
            multiply_adds_after=round(
                (place.whole_cost if rank is None else place.cost(rank)) / place.period
            ),
            predicted_error=0.0 if rank is None else lost.layer_error(rank),
            error=done.layer_errors[place],
            output_error=OutputError(
                predicted=float(np.sqrt(predicted)), measured=done.so_far[place]
            ),
        )
