"""What was done to a model: one entry per compression or training.

Entries are written into a model's file as JSON objects whose ``did`` says which kind they are.
Nothing else reads or writes that form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Union

from s4edge.errors import S4EdgeError
from s4edge.json_codec import encode, told_always
from s4edge.model.from_json import build


@dataclass(frozen=True, kw_only=True)
class OutputError:
    """Relative error of the model's output on calibration data, ``|y - y'| / |y|``.

    Attributes:
        predicted: to first order, before anything was measured.
        layer_by_layer: measured before all layers were moved together, where they were.
        measured: in the end.
        same_class: share of the sequences whose largest score is the same one; None where the
            output is no scores.
    """

    predicted: float | None
    layer_by_layer: float | None = None
    measured: float
    same_class: float | None = None


@dataclass(frozen=True, kw_only=True)
class ReducedLayer:
    """The systems of one layer in one direction, and the errors of their channels.

    Attributes:
        name: of the layer.
        real_states_before: of all channels.
        real_states_after: of all channels.
        channel_real_states: (channels,) afterwards; None in files that do not tell.
        channel_error: (channels,) measured H-infinity norms.
        channel_h2_error: (channels,) H2 norms.
        channel_error_bound: (channels,) upper bounds of the H-infinity norms; None where there is
            none.
        channel_lower_bound: (channels,) H-infinity errors that no system of that order goes below.
        output_error: of the model's output with this layer and all before it reduced.
    """

    name: str
    real_states_before: int
    real_states_after: int
    channel_real_states: tuple[int, ...] | None = None
    channel_error: tuple[float, ...]
    channel_error_bound: tuple[float | None, ...]
    channel_h2_error: tuple[float, ...] | None = None
    channel_lower_bound: tuple[float, ...] | None = None
    output_error: OutputError | None = None

    @property
    def error(self) -> float:
        """The largest of its channels."""
        return max(self.channel_error)

    @property
    def error_bound(self) -> float | None:
        """The largest bound of a channel; None where no channel has one."""
        return max((b for b in self.channel_error_bound if b is not None), default=None)


@dataclass(frozen=True, kw_only=True)
class CalibratedOn:
    """The sequences that a compression was calibrated on.

    Attributes:
        source: where they came from.
        sequences: that were used.
        given: that there were.
        length: samples of each.
    """

    source: str
    sequences: int
    given: int | None = None
    length: int


@dataclass(frozen=True, kw_only=True)
class Compression:
    """A reduction of the states.

    Attributes:
        format: "upstream" where it was written for upstream's classes.
        method: its name.
        allocate: "uniform" or "sensitivity".
        refine: whether the result was moved downhill on calibration data.
        state: the state size that was asked for, or None.
        tolerance: the output error that was asked for instead.
        calibration: None without.
        output_error: of the whole model on the calibration data.
        layers: in the model's order, backward systems after forward ones.
    """

    format: Literal["upstream"] | None = None
    method: str
    allocate: Literal["uniform", "sensitivity"] | None = None
    refine: bool | None = None
    state: int | None = told_always(None)
    tolerance: float | None = None
    calibration: CalibratedOn | None = None
    output_error: OutputError | None = None
    layers: tuple[ReducedLayer, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SlowerLayer:
    """What strides did to a layer.

    Attributes:
        name: of it.
        period: input samples for one that enters it.
        stride: behind it.
        multiply_adds_before: per input sample.
        multiply_adds_after: per input sample.
        error: relative, of what leaves it, against what left it before, averaged over windows; None
            without calibration data.
        output_error: of the model's output with the strides up to the one behind this layer.
        moved_poles: a bound on the H-infinity norm of what moving poles that are over within a
            window has changed, the largest over channels.
    """

    name: str
    period: int
    stride: int
    multiply_adds_before: int
    multiply_adds_after: int
    error: float | None = None
    output_error: OutputError | None = None
    moved_poles: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RateReduction:
    """Layers made to run once for several samples.

    Attributes:
        input_stride: samples that the first layer sees as one.
        strides: behind each layer.
        chosen: whether they were chosen, by error on calibration data for work saved.
        multiply_adds_before: of the model, per input sample.
        multiply_adds_after: of the model, per input sample.
        calibration: None without.
        output_error: of the whole model on the calibration data.
        layers: in order.
    """

    input_stride: int
    strides: tuple[int, ...]
    chosen: bool = False
    multiply_adds_before: int
    multiply_adds_after: int
    calibration: CalibratedOn | None = None
    output_error: OutputError | None = None
    layers: tuple[SlowerLayer, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FactoredLayer:
    """What became of a dense layer whose rank could be reduced.

    Attributes:
        name: of the layer that it is in.
        dense: its name there.
        columns: features that enter.
        rows: features that leave.
        rank_before: None where it was one matrix.
        rank: now; as before where it was left alone.
        multiply_adds_before: per input sample.
        multiply_adds_after: per input sample.
        predicted_error: relative, of what leaves it, against its deviation from its mean, from the
            original's inputs.
        error: the same measured in the smaller model, with what reaches it there.
        output_error: of the model's output with this layer and all before it reduced.
    """

    name: str
    dense: str
    columns: int
    rows: int
    rank_before: int | None = None
    rank: int | None = None
    multiply_adds_before: int
    multiply_adds_after: int
    predicted_error: float
    error: float
    output_error: OutputError


@dataclass(frozen=True, kw_only=True)
class RankReduction:
    """Dense layers made products of two matrices.

    Attributes:
        rank: that was asked for.
        fraction: of the dense layers' multiply-adds that was asked for instead.
        tolerance: the output error that was asked for instead.
        multiply_adds_before: of the model, per input sample.
        multiply_adds_after: of the model, per input sample.
        calibration: sequences.
        output_error: of the whole model on the calibration data.
        layers: in order.
    """

    rank: int | None = None
    fraction: float | None = None
    tolerance: float | None = None
    multiply_adds_before: int
    multiply_adds_after: int
    calibration: CalibratedOn
    output_error: OutputError
    layers: tuple[FactoredLayer, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NarrowedLayer:
    """What a narrower residual stream did to a layer.

    Attributes:
        name: of it.
        channels_before: of its systems.
        channels_after: of its systems.
        multiply_adds_before: per input sample.
        multiply_adds_after: per input sample.
        error: relative, of those features that stay, where they leave it.
    """

    name: str
    channels_before: int
    channels_after: int
    multiply_adds_before: int
    multiply_adds_after: int
    error: float


@dataclass(frozen=True, kw_only=True)
class WidthReduction:
    """Features taken from the residual stream.

    Attributes:
        width_before: features that there were.
        width: that are left.
        features: those, by their place before.
        multiply_adds_before: of the model, per input sample.
        multiply_adds_after: of the model, per input sample.
        calibration: sequences.
        output_error: of the whole model on the calibration data.
        layers: in order.
    """

    width_before: int
    width: int
    features: tuple[int, ...]
    multiply_adds_before: int
    multiply_adds_after: int
    calibration: CalibratedOn
    output_error: OutputError
    layers: tuple[NarrowedLayer, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Training:
    """A fine-tuning.

    Attributes:
        task: what was trained on, beside a teacher; None for the teacher alone.
        epochs: that were run.
        best_epoch: whose parameters were kept.
        samples: sequences trained on.
        seed: of the run.
        validation_accuracy: of the best epoch, a fraction; None where there is none.
        validation_loss: where there is no accuracy.
        distill: the weight of a teacher's outputs in the loss; None without a teacher.
    """

    task: str | None
    epochs: int
    best_epoch: int
    samples: int
    seed: int
    validation_accuracy: float | None = None
    validation_loss: float | None = None
    distill: float | None = None


# Not by |, for isinstance as well.
Entry = Union[Compression, RateReduction, WidthReduction, RankReduction, Training]  # noqa: UP007
KINDS: dict[str, type[Entry]] = {
    "compress": Compression,
    "rate": RateReduction,
    "width": WidthReduction,
    "rank": RankReduction,
    "finetune": Training,
}


def to_json(entry: Entry) -> dict[str, Any]:
    """An entry as a JSON object; `from_json` inverts it."""
    did = next(name for name, kind in KINDS.items() if isinstance(entry, kind))
    return {"did": did, **encode(entry, brief=True)}


def in_short(entry: Entry) -> dict[str, Any]:
    """`to_json` without what it tells of single layers."""
    return {key: value for key, value in to_json(entry).items() if key != "layers"}


def from_json(value: Any) -> Entry:
    """An entry of a JSON object.

    Raises:
        S4EdgeError: it is none, of an unknown kind, or damaged.
    """
    if not isinstance(value, dict) or value.get("did") not in KINDS:
        raise S4EdgeError("its description of what was done to it is damaged")
    fields = {key: each for key, each in value.items() if key != "did"}
    entry: Entry = build(KINDS[value["did"]], fields, "an entry of its history")
    return entry


def last_compression(history: list[Entry]) -> Compression | None:
    """The latest reduction, or None."""
    return next((each for each in reversed(history) if isinstance(each, Compression)), None)
