"""What a model is, apart from its numbers: everything needed to run it from its tensors.

Systems are single-input single-output per channel. Another kind of layer (multi-input
multi-output, as in S5 or LRU) would join as another dataclass beside `SystemsConfig`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from s4edge.errors import S4EdgeError

Activation = Literal["identity", "gelu", "relu", "elu", "silu", "sigmoid", "softplus", "tanh"]
FinalActivation = Literal[
    "identity", "glu", "gelu", "relu", "elu", "silu", "sigmoid", "softplus", "tanh"
]
Norm = Literal["none", "layer"]
NormPlacement = Literal["pre", "post"]
Pooling = Literal["none", "mean"]
Projection = Literal["none", "linear"]


@dataclass(frozen=True)
class SystemsConfig:
    """The diagonal systems of one layer, one per channel.

    Attributes:
        kind: the upstream layer they came from, for people to read.
        state_size: in the checkpoint's own count (``d_state``); after reduction the average.
        states_per_size: real states that one unit of ``state_size`` stands for (2 for DSS, whose
            ``d_state`` counts complex modes; 1 for S4D and S4Block).
        pairs: conjugate pairs of each channel, (channels,).
        reals: real poles of each channel, (channels,).
        growing: modes of each channel with ``|a| >= 1``, (channels,). They exist only in kernels
            of one fixed length (see `ModelConfig.length`) and have no recurrence.
    """

    kind: str
    state_size: float
    states_per_size: int
    pairs: tuple[int, ...]
    reals: tuple[int, ...]
    growing: tuple[int, ...]

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.pairs)

    @property
    def real_states(self) -> int:
        """Real states of all channels together."""
        return 2 * sum(self.pairs) + sum(self.reals) + 2 * sum(self.growing)


@dataclass(frozen=True)
class BlockConfig:
    """One residual block: norm, systems, activation, linear mixing of channels, final activation.

    ``x + f(norm(x))`` for ``norm_placement`` "pre", ``norm(x + f(x))`` for "post", with
    ``f = final_activation(mixing(activation(systems(x))))``.
    """

    name: str
    systems: SystemsConfig
    norm: Norm
    norm_placement: NormPlacement
    norm_epsilon: float
    residual: bool
    activation: Activation
    mixing: Projection
    final_activation: FinalActivation


@dataclass(frozen=True)
class ModelConfig:
    """A whole model: encoder, blocks, pooling over time, decoder.

    Attributes:
        d_input: features of an input sample.
        d_output: features of the output.
        d_model: channels of every block.
        encoder: "linear" maps d_input to d_model.
        blocks: in order.
        pooling: "mean" averages over time before the decoder.
        decoder: "linear" maps d_model to d_output.
        length: None, or the one sequence length for which the model is exact (DSS softmax
            kernels are normalized over a length).
    """

    d_input: int
    d_output: int
    d_model: int
    encoder: Projection
    blocks: tuple[BlockConfig, ...]
    pooling: Pooling
    decoder: Projection
    length: int | None

    @property
    def real_states(self) -> int:
        """Real states of all systems together (the pooling's own state not counted)."""
        return sum(block.systems.real_states for block in self.blocks)

    @property
    def streams(self) -> bool:
        """Whether a stable recurrence exists."""
        return not any(sum(block.systems.growing) for block in self.blocks)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `from_json` inverts it."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> ModelConfig:
        """Build and check a configuration.

        Raises:
            S4EdgeError: a field is missing, unknown or has a value that this version cannot run.
        """
        try:
            blocks = tuple(_block_from_json(block) for block in data["blocks"])
            config = ModelConfig(**{**data, "blocks": blocks})
        except (KeyError, TypeError, ValueError) as error:
            raise S4EdgeError(
                f"the model's configuration cannot be read ({error}); "
                "the file was written by another version of s4edge or is damaged"
            ) from error
        _check(config)
        return config


def _block_from_json(data: dict[str, Any]) -> BlockConfig:
    systems = dict(data["systems"])
    for counts in ("pairs", "reals", "growing"):
        systems[counts] = tuple(int(count) for count in systems[counts])
    return BlockConfig(**{**data, "systems": SystemsConfig(**systems)})


def _check(config: ModelConfig) -> None:
    choices: list[tuple[str, Any, Any]] = [
        ("encoder", config.encoder, Projection),
        ("pooling", config.pooling, Pooling),
        ("decoder", config.decoder, Projection),
    ]
    for block in config.blocks:
        systems = block.systems
        choices += [
            (f"{block.name}: norm", block.norm, Norm),
            (f"{block.name}: norm placement", block.norm_placement, NormPlacement),
            (f"{block.name}: activation", block.activation, Activation),
            (f"{block.name}: mixing", block.mixing, Projection),
            (f"{block.name}: final activation", block.final_activation, FinalActivation),
        ]
        if not len(systems.pairs) == len(systems.reals) == len(systems.growing) == config.d_model:
            raise S4EdgeError(
                f"{block.name}: the counts of modes are not of {config.d_model} channels; "
                "the file is damaged"
            )
    for what, value, allowed in choices:
        if value not in get_args(allowed):
            raise S4EdgeError(
                f"{what} {value!r} is unknown to this version; it knows "
                + ", ".join(get_args(allowed))
            )
