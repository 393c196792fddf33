"""What a model is, apart from its numbers: everything needed to run it from its tensors.

What its layers' systems are is said by their kind (`s4edge.model.systems`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from s4edge.errors import S4EdgeError
from s4edge.json_codec import encode
from s4edge.model.dense.base import DenseConfig
from s4edge.model.dense.registry import AnyDense
from s4edge.model.from_json import build
from s4edge.model.systems.base import SystemsConfig, check_numbers
from s4edge.model.systems.registry import AnySystems

if TYPE_CHECKING:
    from torch import Tensor

Counts = TypeVar("Counts", int, "Tensor")
"""A number of samples, or those of several sequences."""
Activation = Literal[
    "identity", "gelu", "relu", "elu", "silu", "sigmoid", "softplus", "tanh", "sqrelu", "laplace"
]
FinalActivation = str
"""An `Activation`, "glu" (a sigmoid gate that halves the width), or "glu-" and an `Activation`."""
Norm = Literal["none", "layer", "standardize", "affine", "instance", "group", "batch"]
NormPlacement = Literal["pre", "post"]
Pooling = Literal["none", "mean", "sum", "last", "first"]
Projection = Literal["none", "linear"]
Encoder = Literal["none", "linear", "embedding"]
Residual = Literal["sum", "scaled", "highway"]
Downsampling = Literal["mean", "sample", "stack"]


def backward_name(layer: str) -> str:
    """How a layer's systems that run backward are called."""
    return f"{layer} (backward)"


@dataclass(frozen=True)
class GateConfig:
    """A multiplicative branch, linear input and output, ``width`` wide where they meet.

    ``output_activation(output(y)) * activation(input(u))``.
    """

    width: int
    activation: Activation
    output_activation: FinalActivation


@dataclass(frozen=True)
class DenseLayer:
    """A dense layer of a block that is not plain: its name there (`BlockConfig.dense_names`)."""

    name: str
    kind: AnyDense


@dataclass(frozen=True)
class BlockConfig:
    """One residual block.

    ``x + f(norm(x))`` for ``norm_placement`` "pre", ``norm(x + f(x))`` for "post". ``f`` is, from
    the inside: the systems (and those that run ``backward``), ``hyper``, ``activation``, ``gate``,
    ``multiplied_activation``, ``mixing``, ``final_activation``, ``projection``.

    Attributes:
        name: upstream's prefix of the layer.
        systems: forward in time.
        norm: "layer"; "standardize" (mean and deviation over features, one scale and shift for
            all); "affine" (a scale and shift per feature: a folded batch norm); "instance" and
            "group" (over time too, so not causal); "batch" (a batch norm that kept no statistics:
            over time and all sequences that come together); "none".
        norm_placement: before the systems or after the residual.
        norm_epsilon: of "layer", "instance", "group", "batch".
        residual: whether ``x`` is added.
        activation: after the systems; of the "glu" family it halves the channels.
        mixing: a linear layer over channels, of ``mixing_width`` rows.
        final_activation: after the mixing.
        backward: systems that run from the end: ``y_t += sum_j K[j] u_{t+1+j}``.
        hyper: activation of the second half of the channels, by which the first is multiplied.
        gate: None or a multiplicative branch.
        multiplied_activation: after the gate.
        mixing_width: rows of the mixing; None for d_output, or twice that before a "glu".
        projection: a second linear layer, to d_output.
        residual_weights: of ``x`` and of ``f``; of "highway" the first counts.
        stride: of so many samples one leaves the block.
        residual_form: "sum", weighted; "scaled": ``f`` times a trained factor per feature;
            "highway": ``w (1 - g) x + g h(f)`` with a gate ``g = sigmoid(r(x) + h(f))`` and linear
            ``r`` and ``h``.
        d_output: features that leave the layer; None: as many as enter.
        downsampling: what leaves of ``stride`` samples: their mean, the first of them
            ("sample"), or all, feature by feature side by side ("stack").
        repeat: each feature leaves so many times.
        widening: rows of a linear layer at the end, or None.
        dense: what its linear layers are that are not plain.
    """

    name: str
    systems: AnySystems
    norm: Norm
    norm_placement: NormPlacement
    norm_epsilon: float
    residual: bool
    activation: FinalActivation
    mixing: Projection
    final_activation: FinalActivation
    backward: AnySystems | None = None
    hyper: Activation | None = None
    gate: GateConfig | None = None
    multiplied_activation: Activation = "identity"
    mixing_width: int | None = None
    projection: Projection = "none"
    residual_weights: tuple[float, float] = (1.0, 1.0)
    stride: int = 1
    residual_form: Residual = "sum"
    d_output: int | None = None
    downsampling: Downsampling = "mean"
    repeat: int = 1
    widening: int | None = None
    dense: tuple[DenseLayer, ...] = ()

    @property
    def dense_names(self) -> tuple[str, ...]:
        """The linear layers that it has."""
        there = {
            "gate.input": self.gate is not None,
            "gate.output": self.gate is not None,
            "mixing": self.mixing == "linear",
            "projection": self.projection == "linear",
            "highway.input": self.residual_form == "highway",
            "highway.output": self.residual_form == "highway",
            "widening": self.widening is not None,
        }
        return tuple(name for name, is_there in there.items() if is_there)

    def dense_kind(self, name: str) -> DenseConfig | None:
        """Of a linear layer; None where it is plain."""
        return next((each.kind for each in self.dense if each.name == name), None)

    @property
    def all_systems(self) -> tuple[SystemsConfig, ...]:
        """Forward and, if there are any, backward."""
        return (self.systems,) if self.backward is None else (self.systems, self.backward)

    def samples_out(self, samples: Counts) -> Counts:
        """How many samples leave when so many enter."""
        if self.downsampling == "sample":
            return -(-samples // self.stride)
        return samples // self.stride

    def features_out(self, features: int) -> int:
        """How many features leave when so many leave the layer."""
        stacked = self.stride if self.downsampling == "stack" else 1
        return self.widening or features * stacked * self.repeat

    @property
    def cannot_stream(self) -> str | None:
        """Why the block has no stable recurrence from sample to sample; None if it has."""
        if self.backward is not None:
            return "it is bidirectional: its output depends on samples yet to come"
        if self.norm in ("instance", "group"):
            return f"its {self.norm} norm takes statistics over the whole sequence"
        if self.norm == "batch":
            return "its batch norm has no statistics of its own and takes them over the whole batch"
        return self.systems.cannot_stream


@dataclass(frozen=True)
class HeadConfig:
    """What compares the model's answers to two sequences, ``u`` and ``v``.

    A linear layer of each of ``widths`` with an activation behind it, and one to ``d_output``.

    Attributes:
        widths: of the hidden layers.
        activation: behind each of them.
        d_output: what the last gives, for each pair.
        contrasts: whether ``u - v`` and ``u v`` enter beside ``u`` and ``v``.
    """

    widths: tuple[int, ...]
    activation: Activation
    d_output: int
    contrasts: bool


@dataclass(frozen=True)
class ModelConfig:
    """A whole model: encoder, blocks, pooling over time, decoder.

    Attributes:
        d_input: features of an input sample.
        d_output: features of the output.
        d_model: channels of every block.
        encoder: "linear" maps d_input to d_model; "embedding" looks up d_input tokens.
        blocks: in order.
        pooling: over time before the decoder: "mean", "sum", "last", "first", or "none".
        decoder: "linear" maps d_model to d_output.
        length: None, or the one sequence length for which the model is exact (DSS softmax
            kernels are normalized over a length).
        final_norm: after the last block, as a block's norm.
        channels_first: a bare layer that takes and gives (batch, features, length).
        answers: of the pooling. 0: one, for the whole sequence; a number: one after each of the
            last so many samples (of "first" and "last": so many of the first or last samples as
            they are); None: one after each sample.
        head: compares the answers to two sequences each; None where there is no head.
        input_stride: of so many samples the first block sees one: a "linear" encoder reads them
            feature by feature side by side, any other averages what it gives.
        held: each answer to several samples is repeated until the next one, from the last of the
            samples that it takes; before the first one it is 0. So there is one for each sample.
    """

    d_input: int
    d_output: int
    d_model: int
    encoder: Encoder
    blocks: tuple[BlockConfig, ...]
    pooling: Pooling
    decoder: Projection
    length: int | None
    final_norm: Norm = "none"
    norm_epsilon: float = 1e-5
    channels_first: bool = False
    answers: int | None = 0
    head: HeadConfig | None = None
    input_stride: int = 1
    held: bool = False

    @property
    def real_states(self) -> int:
        """Real states of all systems together (the pooling's own state not counted)."""
        return sum(each.real_states for block in self.blocks for each in block.all_systems)

    @property
    def largest_state_size(self) -> float:
        """Of all systems."""
        return max(each.state_size for block in self.blocks for each in block.all_systems)

    @property
    def average_state_size(self) -> float:
        """Of the layers' forward systems."""
        return sum(block.systems.state_size for block in self.blocks) / len(self.blocks)

    def block_widths(self, index: int) -> tuple[int, int, int]:
        """Features that enter a block, that leave its layer, and that leave the block."""
        enters = self.d_model
        for block in self.blocks[:index]:
            enters = block.features_out(block.d_output or enters)
        block = self.blocks[index]
        leaves = block.d_output or enters
        if len(self.blocks) == 1 and self.decoder == "none" and block.d_output is None:
            # A bare layer gives what the model gives.
            widened = block.widening or block.features_out(1) != 1
            leaves = leaves if widened else self.d_output
        return enters, leaves, block.features_out(leaves)

    @property
    def input_joining(self) -> Downsampling:
        """How `input_stride` samples become one."""
        return "stack" if self.encoder == "linear" else "mean"

    @property
    def periods(self) -> list[int]:
        """Input samples for one that enters each block, and for one that leaves the last."""
        strides = (block.stride for block in self.blocks)
        return list(accumulate(strides, lambda one, other: one * other, initial=self.input_stride))

    @property
    def stride(self) -> int:
        """Samples that go into one that leaves the last block."""
        return self.periods[-1]

    @property
    def first_answer(self) -> int:
        """Samples before the first one after which a sample leaves the last block."""
        before = self.input_stride - 1
        for block, period in zip(self.blocks, self.periods, strict=False):
            # Of a window its first sample leaves at once, all else with the last of them.
            before += 0 if block.downsampling == "sample" else period * (block.stride - 1)
        return before

    @property
    def d_features(self) -> int:
        """Features that leave the last block."""
        return self.block_widths(len(self.blocks) - 1)[2]

    def samples_entering(self, samples: Counts) -> list[Counts]:
        """How many samples enter each block, and leave the last, when so many are given.

        Those that make no whole sample of a later block are not heard there.
        """
        counts = [samples // self.input_stride]
        for block in self.blocks:
            counts.append(block.samples_out(counts[-1]))
        return counts

    @property
    def looks_across_the_batch(self) -> bool:
        """Whether an answer depends on the sequences that come together with it."""
        return "batch" in (self.final_norm, *(block.norm for block in self.blocks))

    @property
    def running_pooling(self) -> Pooling:
        """What the recurrence pools; where samples are answers themselves, nothing."""
        if self.pooling in ("first", "last") and self.answers not in (0, 1):
            return "none"
        return self.pooling

    @property
    def answers_each_sample(self) -> bool:
        """Whether there is an answer to every sample, or to every window of samples."""
        return self.pooling == "none" or self.answers is None

    @property
    def takes_padding(self) -> bool:
        """Whether sequences may be padded at the end."""
        return self.streams and (self.stride == 1 or self.held or not self.answers_each_sample)

    @property
    def cannot_stream(self) -> str | None:
        """Why the model has no stable recurrence from sample to sample; None if it has."""
        if self.final_norm in ("instance", "group", "batch"):
            over = "batch" if self.final_norm == "batch" else "sequence"
            return f"its last norm ({self.final_norm}) takes statistics over the whole {over}"
        for block in self.blocks:
            if block.cannot_stream is not None:
                return f"{block.name}: {block.cannot_stream}"
        exact = self.exact_samples
        if self.length is not None and exact is not None and exact < self.length:
            return (
                f"its kernels are cut at {exact} samples, where a recurrence goes on, and it is "
                f"valid for sequences of {self.length} samples only"
            )
        if exact is not None and exact <= self.first_answer:
            return (
                f"its kernels are cut at {exact} samples, where a recurrence goes on, and its "
                f"first answer comes after {self.first_answer + 1}"
            )
        return None

    @property
    def streams(self) -> bool:
        """Whether a stable recurrence exists."""
        return self.cannot_stream is None

    @property
    def exact_samples(self) -> int | None:
        """Samples for which the recurrence is exact; None for any number."""
        cuts = [
            each.exact_samples * period
            for block, period in zip(self.blocks, self.periods, strict=False)
            for each in block.all_systems
            if each.exact_samples is not None
        ]
        return min(cuts, default=None)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` inverts it."""
        said: dict[str, Any] = encode(self)
        return said

    @staticmethod
    def from_json(data: dict[str, Any]) -> ModelConfig:
        """Build and check a configuration.

        Raises:
            S4EdgeError: a field is missing, unknown or has a value that this version cannot run.
        """
        config: ModelConfig = build(ModelConfig, data, "the model's configuration")
        _check(config)
        return config


def is_activation(name: object) -> bool:
    """Whether a name is of `FinalActivation`."""
    return isinstance(name, str) and (
        name == "glu" or name.removeprefix("glu-") in get_args(Activation)
    )


def _check(config: ModelConfig) -> None:
    _check_numbers(config)
    if config.head is not None and not is_activation(config.head.activation):
        raise S4EdgeError(f"the head's activation {config.head.activation!r} is unknown here")
    for index, block in enumerate(config.blocks):
        activations = [block.activation, block.multiplied_activation, block.final_activation]
        activations += [name for name in (block.hyper,) if name is not None]
        if block.gate is not None:
            activations += [block.gate.activation, block.gate.output_activation]
        for name in activations:
            if not is_activation(name):
                raise S4EdgeError(f"{block.name}: the activation {name!r} is unknown here")
        names = [each.name for each in block.dense]
        if len({*names}) != len(names) or not {*names} <= {*block.dense_names}:
            raise S4EdgeError(
                f"{block.name}: it has the dense layers {', '.join(block.dense_names) or 'none'}, "
                f"not once each {', '.join(map(repr, names))}"
            )
        for systems in block.all_systems:
            systems.check(block.name, config.block_widths(index)[0])


def _check_numbers(config: ModelConfig) -> None:
    least: list[tuple[str, float | None, int]] = [
        ("d_input", config.d_input, 1),
        ("d_output", config.d_output, 1),
        ("d_model", config.d_model, 1),
        ("length", config.length, 1),
        ("the number of blocks", len(config.blocks), 1),
        ("norm_epsilon", config.norm_epsilon, 0),
        ("answers", config.answers, 0),
        ("input_stride", config.input_stride, 1),
    ]
    if config.head is not None:
        head = config.head
        least += [("the head's outputs", head.d_output, 1)]
        least += [("the head's width", width, 1) for width in head.widths]
    for block in config.blocks:
        least += [
            (f"{block.name}: norm_epsilon", block.norm_epsilon, 0),
            (f"{block.name}: mixing_width", block.mixing_width, 1),
            (f"{block.name}: stride", block.stride, 1),
            (f"{block.name}: repeat", block.repeat, 1),
            (f"{block.name}: widening", block.widening, 1),
            (f"{block.name}: d_output", block.d_output, 1),
        ]
        if block.gate is not None:
            least.append((f"{block.name}: the gate's width", block.gate.width, 1))
    check_numbers(*least)
