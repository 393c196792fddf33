"""The step of compression that makes layers run once for several samples."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from s4edge.compression.rates.choosing import choose
from s4edge.compression.rates.errors import layer_errors, measured_error, predicted_errors
from s4edge.compression.rates.slowing import (
    Strides,
    check_can_slow,
    check_length,
    moved_poles,
    slowed,
)
from s4edge.compression.result import Compressed
from s4edge.compression.states.calibration import Calibration, evenly, output_on, working_copy
from s4edge.compression.states.observed import relative_error, same_class
from s4edge.errors import S4EdgeError
from s4edge.model.costs import costs_of, multiply_adds
from s4edge.model.history import OutputError, RateReduction, SlowerLayer
from s4edge.model.sequence_model import SequenceModel
from s4edge.progress import Progress, part_of, silent

# Sequences on which strides are chosen and layers are measured.
_SEQUENCES = 96
# The output's relative error up to which strides are chosen where nothing else is said.
MOST_ERROR = 0.2


@dataclass(frozen=True)
class ReduceRate:
    """What is asked of rates.

    Attributes:
        strides: of how many samples one is made behind each layer; or one more, the first of them
            before the first layer; None: chosen by error on calibration data for work saved.
        macs: multiply-adds per input sample to get down to, where strides are chosen.
        error: relative error of the output up to which they are chosen; None: `MOST_ERROR`, or any
            where ``macs`` is given.
    """

    strides: tuple[int, ...] | None = None
    macs: int | None = None
    error: float | None = None

    def check(self, model: SequenceModel) -> None:
        """Raise S4EdgeError unless there are strides that suit the model, or room to choose."""
        if self.strides is None:
            if self.macs is not None and self.macs < 1:
                raise S4EdgeError(f"multiply-adds per sample must be at least 1, got {self.macs}")
            if self.error is not None and not 0 < self.error < 1:
                raise S4EdgeError(
                    f"the error that strides may cost is relative, between 0 and 1, got "
                    f"{self.error:g}"
                )
            # Whether the model can have strides at all.
            check_can_slow(model.config, Strides(1, (1,) * len(model.blocks)))
            return
        if self.macs is not None or self.error is not None:
            raise S4EdgeError("strides are either given or chosen: give --rate auto for a budget")
        check_can_slow(model.config, self.given(model))

    def given(self, model: SequenceModel) -> Strides:
        """The strides that were asked for. Raises S4EdgeError unless they are as many as layers."""
        strides, layers = self.strides or (), len(model.blocks)
        if len(strides) not in (layers, layers + 1):
            counted = "1 stride" if len(strides) == 1 else f"{len(strides)} strides"
            raise S4EdgeError(
                f"{counted} for {layers} layers: give {layers}, one behind each layer, or "
                f"{layers + 1}, the first of them at the input"
            )
        wrong = next((each for each in strides if type(each) is not int or each < 1), None)
        if wrong is not None:
            raise S4EdgeError(f"a stride is a whole number from 1 up, got {wrong}")
        if len(strides) == layers:
            return Strides(1, tuple(strides))
        return Strides(strides[0], tuple(strides[1:]))


def reduce_rate(
    model: SequenceModel,
    step: ReduceRate,
    calibration: Calibration | None = None,
    progress: Progress = silent,
) -> Compressed:
    """Make layers of a copy of a model run once for several samples.

    Its systems are exact for signals that are held and averaged so; what is lost is what happens
    within a window. The copy's ``provenance.history`` tells the errors of each layer and of the
    output on calibration data, predicted and measured.

    Args:
        model: left as it is.
        step: which strides, or how far to choose them.
        calibration: sequences, without labels; needed to choose.
        progress: called with the fraction done.

    Raises:
        S4EdgeError: strides do not suit the model or the data, or no choice meets the budget.
    """
    step.check(model)
    if calibration is None:
        if step.strides is None:
            raise S4EdgeError("choosing strides needs calibration data: add --calibrate DATA")
        strides = step.given(model)
        small = slowed(model, strides)
        small.provenance.history.append(_entry(model, small, step, strides))
        progress(1)
        return Compressed(small)
    part = calibration.part(evenly(len(calibration), _SEQUENCES))
    lengths = calibration.lengths
    shortest = calibration.length if lengths is None else int(lengths.min())
    aim = output_on(working_copy(model), part)
    if step.strides is None:
        limit = step.error if step.error is not None or step.macs is not None else MOST_ERROR
        strides = choose(
            model,
            lambda small: measured_error(small, part, aim),
            shortest,
            most_error=limit,
            budget=step.macs,
            progress=part_of(progress, 0, 2),
        )
    else:
        strides = step.given(model)
        check_length(model.config, strides, shortest, calibration.source)
    small = slowed(model, strides)
    certified = _Certificates(model, small, strides, calibration, part, aim)
    small.provenance.history.append(_entry(model, small, step, strides, certified))
    progress(1)
    return Compressed(small)


class _Certificates:
    """Errors of a model with strides, on calibration data.

    Attributes:
        output: of the output, on all sequences.
        so_far: of the output with the strides up to each layer, on a part of them.
        layers: of what leaves each layer.
        calibration: the sequences.
    """

    def __init__(
        self,
        model: SequenceModel,
        small: SequenceModel,
        strides: Strides,
        calibration: Calibration,
        part: Calibration,
        of_part: Tensor,
    ) -> None:
        self.calibration = calibration
        aim = output_on(working_copy(model), calibration)
        energy = float(of_part.double().square().sum()) / len(part)
        if not 0 < energy < float("inf"):
            raise S4EdgeError(
                f"the model's output on {calibration.source} is zero throughout, or NaN or "
                "infinite in places: errors cannot be told"
            )
        partial = [strides.up_to(count) for count in range(1, len(strides.layers) + 1)]
        predicted = predicted_errors(model, partial, part, energy)
        self.so_far: list[OutputError] = []
        for index, each in enumerate(partial):
            same = index and each == partial[index - 1]
            found = (
                self.so_far[-1].measured if same
                else measured_error(slowed(model, each), part, of_part)
            )  # fmt: skip
            self.so_far.append(OutputError(predicted=predicted[index], measured=found))
        self.layers = layer_errors(model, small, strides, part)
        y = output_on(working_copy(small), calibration)
        self.output = OutputError(
            predicted=predicted[-1],
            measured=relative_error(y, aim),
            same_class=same_class(aim, y),
        )


def _entry(
    model: SequenceModel,
    small: SequenceModel,
    step: ReduceRate,
    strides: Strides,
    certified: _Certificates | None = None,
) -> RateReduction:
    costs = zip(costs_of(model)[1:-1], costs_of(small)[1:-1], strict=True)
    moved, layers = moved_poles(model, strides), []
    for index, (before, after) in enumerate(costs):
        layers.append(
            SlowerLayer(
                name=before.name,
                period=after.period,
                stride=small.config.blocks[index].stride,
                multiply_adds_before=round(before.multiply_adds),
                multiply_adds_after=round(after.multiply_adds),
                error=None if certified is None else certified.layers[index],
                output_error=None if certified is None else certified.so_far[index],
                moved_poles=moved[index],
            )
        )
    return RateReduction(
        input_stride=small.config.input_stride,
        strides=tuple(block.stride for block in small.config.blocks),
        chosen=step.strides is None,
        multiply_adds_before=multiply_adds(model),
        multiply_adds_after=multiply_adds(small),
        calibration=None if certified is None else certified.calibration.told(),
        output_error=None if certified is None else certified.output,
        layers=tuple(layers),
    )
