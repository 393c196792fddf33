"""A model as a straight line of stages: what is computed, with which constants, over which state.

A program is of one sample after the other, or of whole sequences, (length, features) at once.

A stage makes one value, a vector of features, from values made before it; the value has the
stage's name. Stages are named after the model's parts (``encoder``, ``blocks.0.mixing``), constants
after its tensors. Nothing here says how a backend computes a stage or in which order it keeps the
states of a layer; `Program.layout` says where the states of each layer lie in a packed state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from s4edge.arrays import Float
from s4edge.model.configuration import Downsampling
from s4edge.systems.modes import Modes

Role = Literal[
    "pole",
    "mode weight",
    "feedthrough",
    "kernel",
    "matrix",
    "bias",
    "scale",
    "shift",
    "embedding",
    "residual weight",
    "number",
]
"""What a constant is to the model, by which a backend chooses how many bits it gets.

"pole": acts on a state again and again, so that its rounding is repeated at every sample.
"mode weight": of a mode, wherever between input, state and output a backend puts it.
"feedthrough": from a channel's input to its output at once. "kernel": a stretch of the response.
"matrix", "bias": of a dense layer. "scale", "shift": of a norm. "embedding": one row a token.
"residual weight": of a branch. "number": no parameter of the model (an epsilon, an index, a size).
"""

Meaning = Literal["states", "pooled", "window", "answer", "count"]
"""What a segment of the state holds: real states of systems; the features pooled so far; what is
gathered of samples that become one; the answer that is held; samples seen."""


@dataclass(frozen=True)
class Constant:
    """A tensor of the model in double precision.

    Attributes:
        name: of the tensor, ``blocks.0.mixing.weight``.
        role: what it is to the model.
        value: of it.
    """

    name: str
    role: Role
    value: Float


@dataclass(frozen=True)
class Embedding:
    """The row of a token: ``table[token]``, table (tokens, features)."""

    table: Constant


@dataclass(frozen=True)
class Linear:
    """``weight @ x + bias``: weight (out, in), bias (out,)."""

    weight: Constant
    bias: Constant


@dataclass(frozen=True)
class LayerNorm:
    """``(x - mean) / sqrt(variance + epsilon) * scale + shift`` over the features."""

    scale: Constant
    shift: Constant
    epsilon: float


@dataclass(frozen=True)
class Standardize:
    """``(x - mean + shift) / deviation * scale`` over the features; scale and shift (1,)."""

    scale: Constant
    shift: Constant


@dataclass(frozen=True)
class NormOverTime:
    """``(x - mean) / sqrt(variance + epsilon) * scale + shift``, of whole sequences.

    Attributes:
        scale: (features,).
        shift: (features,).
        epsilon: added to the variance.
        axes: of (batch, length, features), over which mean and variance are taken.
    """

    scale: Constant
    shift: Constant
    epsilon: float
    axes: tuple[int, ...]


@dataclass(frozen=True)
class Affine:
    """``x * scale + shift``, both (features,); no shift where it is None."""

    scale: Constant
    shift: Constant | None


@dataclass(frozen=True)
class Gather:
    """``x[indices]``."""

    indices: tuple[int, ...]


@dataclass(frozen=True)
class Recurrence:
    """One single-input single-output system per feature: ``y_t = Re sum_n w_n z_n + D u_t``.

    ``z_n`` is the mode's state, ``a_n z_n + u_t`` from its last value; it costs two real states,
    one where the pole is real.

    Attributes:
        modes: ``log a`` (role "pole") and ``w`` (role "mode weight") of each, all with ``|a| < 1``.
        feedthrough: ``D``, (channels,).
        backward: of whole sequences, from their ends: ``y_t = D u_{t+1} + Re sum_n w_n z_n`` with
            ``z_n = a_n z_n + u_{t+1}``.
    """

    modes: Modes
    feedthrough: Constant
    backward: bool = False

    @property
    def first_tap(self) -> Float:
        """(channels,) what an input adds to the output at once: ``D + Re sum_n w_n``."""
        modes = self.modes
        at_once = np.bincount(modes.channel, weights=modes.weight.real, minlength=modes.channels)
        return np.asarray(self.feedthrough.value + at_once)


@dataclass(frozen=True)
class Convolution:
    """Of whole sequences, channel by channel, with kernels that are no recurrence.

    ``y_t = sum_k K[k] u_{t-k}``, backward ``y_t = sum_k K[k] u_{t+1+k}``.

    Attributes:
        kernel: ``K``, (channels, taps).
        feedthrough: None, or (channels,) what ``K[0]`` lacks.
        backward: from the ends.
    """

    kernel: Constant
    feedthrough: Constant | None
    backward: bool


@dataclass(frozen=True)
class Activation:
    """A function of each feature, by its name in `s4edge.model.activations`."""

    function: str


@dataclass(frozen=True)
class Glu:
    """The first half of the features times a function of the second half."""

    function: str


@dataclass(frozen=True)
class Product:
    """Feature by feature, of two values."""


@dataclass(frozen=True)
class WeightedSum:
    """``weights[0] * x + weights[1] * y`` of two values."""

    weights: tuple[float, float]


@dataclass(frozen=True)
class Pool:
    """A running pool of the samples so far: "mean", "sum" or "first". See `s4edge.model.pooling`.

    Attributes:
        kind: of it.
    """

    kind: str


@dataclass(frozen=True)
class PoolSequence:
    """Whole sequences pooled. See `s4edge.model.pooling`.

    Attributes:
        kind: "mean", "sum", "last" or "first".
        answers: see `s4edge.model.configuration.ModelConfig`.
    """

    kind: str
    answers: int | None


@dataclass(frozen=True)
class Downsample:
    """Of ``stride`` samples one: their "mean", the first ("sample"), or all ("stack").

    Stacked, the samples of each feature stand side by side. All stages behind it are computed once
    for so many samples: with the last of them, or the first where it is the one that goes on.
    """

    kind: Downsampling
    stride: int


@dataclass(frozen=True)
class Hold:
    """An answer to every ``period`` samples as one to each: the latest, 0 before there is one.

    Attributes:
        period: samples from one to the next.
        first: samples before the one that has the first.
    """

    period: int
    first: int


OverSequences = NormOverTime | Convolution | PoolSequence
"""What programs of whole sequences have besides."""

Operation = (
    Embedding
    | Linear
    | LayerNorm
    | Standardize
    | Affine
    | Gather
    | Recurrence
    | Activation
    | Glu
    | Product
    | WeightedSum
    | Pool
    | Downsample
    | Hold
    | OverSequences
)


@dataclass(frozen=True)
class Stage:
    """One value.

    Attributes:
        name: of the stage and of its value.
        part: of the model that it belongs to: ``encoder``, ``blocks.0``, ``norm``, ``pooling``,
            ``decoder``.
        operation: what is computed.
        inputs: names of the values that it reads; ``x`` is the model's input.
        width: features of its value.
    """

    name: str
    part: str
    operation: Operation
    inputs: tuple[str, ...]
    width: int

    @property
    def constants(self) -> Iterator[Constant]:
        """Of its operation (those of modes are in the modes)."""
        for field in dataclasses.fields(self.operation):
            value = getattr(self.operation, field.name)
            if isinstance(value, Constant):
                yield value

    @property
    def carries(self) -> tuple[tuple[Meaning, int], ...]:
        """What it carries from sample to sample, and how many floats, without any filling up."""
        if isinstance(self.operation, Recurrence):
            states = int(self.operation.modes.real_states.sum())
            return (("states", states),) if states else ()
        if isinstance(self.operation, Pool):
            pooled: tuple[Meaning, int] = ("pooled", self.width)
            return (pooled,) if self.operation.kind == "sum" else (pooled, ("count", 1))
        if isinstance(self.operation, Downsample):
            gathered = 0 if self.operation.kind == "sample" else self.width
            return ("window", gathered), ("count", 1)
        if isinstance(self.operation, Hold):
            return ("answer", self.width), ("count", 1)
        return ()


@dataclass(frozen=True)
class Segment:
    """Part of a packed state.

    Attributes:
        stage: whose it is; where states of several stages lie interleaved, the first of them.
        meaning: of its floats.
        offset: of its first float.
        width: floats.
    """

    stage: str
    meaning: Meaning
    offset: int
    width: int


@dataclass(frozen=True)
class Program:
    """All stages of a model, in an order in which they can be computed.

    Attributes:
        d_input: features of an input sample; 1 where it is a token.
        tokens: None, or how many tokens there are.
        stages: of the model.
        output: the value that the model gives.
        d_output: its features.
    """

    d_input: int
    tokens: int | None
    stages: tuple[Stage, ...]
    output: str
    d_output: int

    def __getitem__(self, name: str) -> Stage:
        """The stage of a name."""
        return next(stage for stage in self.stages if stage.name == name)

    def width(self, value: str) -> int:
        """Features of a value."""
        return self.d_input if value == "x" else self[value].width

    @property
    def systems(self) -> tuple[tuple[Stage, Recurrence], ...]:
        """The stages that hold systems, in order."""
        return tuple(
            (stage, stage.operation)
            for stage in self.stages
            if isinstance(stage.operation, Recurrence)
        )

    @property
    def through_systems(self) -> int:
        """How many stages there are up to the end of the last part that holds systems."""
        parts = [stage.part for stage, _ in self.systems][-1:]
        return max((i + 1 for i, s in enumerate(self.stages) if s.part in parts), default=0)

    def layout(self, widths: Mapping[str, int] | None = None) -> tuple[Segment, ...]:
        """How the state lies: states of each stage in order, then the pooling's.

        Args:
            widths: by stage, floats for its states where a backend keeps other than the least; a
                stage of 0 has none of its own (its states lie in those of an earlier one).
        """
        segments: list[Segment] = []
        offset = 0
        for stage in self.stages:
            for meaning, width in stage.carries:
                if meaning == "states":
                    width = (widths or {}).get(stage.name, width)
                if width:
                    segments.append(Segment(stage.name, meaning, offset, width))
                    offset += width
        return tuple(segments)

    def widths(self, operation: type[Operation]) -> list[int]:
        """Floats that the stages of a kind carry, segment by segment."""
        return [
            segment.width
            for segment in self.layout()
            if isinstance(self[segment.stage].operation, operation)
        ]

    @property
    def periods(self) -> dict[str, int]:
        """By value, the input samples for one of it."""
        found = {"x": 1}
        for stage in self.stages:
            operation, period = stage.operation, found[stage.inputs[0]]
            if isinstance(operation, Downsample):
                period *= operation.stride
            found[stage.name] = 1 if isinstance(operation, Hold) else period
        return found

    @property
    def period(self) -> int:
        """Input samples after which everything has been computed at least once."""
        return max(self.periods.values())

    @property
    def multiply_adds(self) -> int:
        """Per input sample: of dense layers, and of states (six a conjugate pair, two a real pole).

        Of stages that are not computed at every sample their share, in the nearest whole number.
        """
        total, periods = 0.0, self.periods
        for stage in self.stages:
            here = 0
            if isinstance(stage.operation, Linear):
                here = stage.operation.weight.value.size
            if isinstance(stage.operation, Recurrence):
                real = stage.operation.modes.is_real
                here = 6 * int((~real).sum()) + 2 * int(real.sum())
            total += here / periods[stage.name]
        return round(total)

    def rounded(self, rounding: Callable[[Constant], Float]) -> Program:
        """The same with other values for its constants, ``rounding`` of each."""
        return dataclasses.replace(
            self, stages=tuple(_rounded(stage, rounding) for stage in self.stages)
        )


def _rounded(stage: Stage, rounding: Callable[[Constant], Float]) -> Stage:
    changes = {}
    for field in dataclasses.fields(stage.operation):
        value = getattr(stage.operation, field.name)
        if isinstance(value, Constant):
            changes[field.name] = dataclasses.replace(value, value=rounding(value))
    operation = dataclasses.replace(stage.operation, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(stage, operation=operation)


def state_width(layout: tuple[Segment, ...]) -> int:
    """Floats of a packed state."""
    return sum(segment.width for segment in layout)
