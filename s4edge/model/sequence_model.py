"""The one form of model: encoder, blocks, pooling, decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from s4edge.errors import S4EdgeError
from s4edge.model.block import Block
from s4edge.model.configuration import ModelConfig
from s4edge.model.systems import Coefficients


@dataclass
class Provenance:
    """Where a model came from and what was done to it.

    Attributes:
        source: name of the file that it was first read from.
        format: the layout recognized there, in words.
        inferred: facts read off the tensors.
        assumed: facts that the file does not hold, taken as upstream's default.
        given: facts from the saved configuration, the sidecar or ``--set``.
        history: one entry per compression or training, oldest first.
    """

    source: str = ""
    format: str = ""
    inferred: dict[str, Any] = field(default_factory=dict)
    assumed: dict[str, Any] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


def _projection(kind: str, width_in: int, width_out: int) -> nn.Module:
    return nn.Linear(width_in, width_out) if kind == "linear" else nn.Identity()


class SequenceModel(nn.Module):
    """A model that runs as a convolution over whole sequences and, sample by sample, recurrently.

    The recurrence carries one packed state (batch, `state_width`): the states of the blocks'
    systems in order, then, with mean pooling, the running mean (d_model) and the number of samples
    seen. It is float64 whatever the parameters are: this recurrence is what the graphs are checked
    against.
    """

    # A ModuleList, which torch's types do not make generic.
    blocks: Sequence[Block]

    def __init__(self, config: ModelConfig, provenance: Provenance | None = None) -> None:
        super().__init__()
        self.config = config
        self.provenance = provenance or Provenance()
        self.encoder = _projection(config.encoder, config.d_input, config.d_model)
        self.blocks = nn.ModuleList(  # type: ignore[assignment]
            Block(block, config.d_model, config.length) for block in config.blocks
        )
        self.decoder = _projection(config.decoder, config.d_model, config.d_output)

    # As a convolution

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Run whole sequences.

        Args:
            x: (batch, length, d_input).
            lengths: (batch,) samples that count, where sequences are padded at the end. Causal
                systems need it for the pooling only.

        Returns:
            (batch, d_output) with pooling, else (batch, length, d_output).

        Raises:
            S4EdgeError: ``x`` has another shape, or the model is exact for one length only and
                this is another.
        """
        features = self._features(x, lengths)
        if self.config.pooling == "mean":
            if lengths is None:
                features = features.double().mean(dim=1).to(x.dtype)
            else:
                counted = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
                total = (features.double() * counted[..., None]).sum(dim=1)
                features = (total / lengths[:, None]).to(x.dtype)
        return self._decode(features)

    def running(self, x: Tensor) -> Tensor:
        """(batch, length, d_output): the output after each sample, by convolution.

        What the recurrence gives sample by sample. Raises as `forward` does.
        """
        features = self._features(x, None)
        if self.config.pooling == "mean":
            seen = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=torch.float64)
            features = (features.double().cumsum(dim=1) / seen[:, None]).to(x.dtype)
        return self._decode(features)

    def _decode(self, features: Tensor) -> Tensor:
        out: Tensor = self.decoder(features)
        return out

    def _features(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        if x.ndim != 3 or x.shape[2] != self.config.d_input or x.shape[1] == 0:
            raise S4EdgeError(
                f"the model takes (batch, length, {self.config.d_input}), got {tuple(x.shape)}"
            )
        required = self.config.length
        if required is not None:
            found = {x.shape[1]} if lengths is None else set(lengths.tolist())
            if found != {required}:
                raise S4EdgeError(
                    f"the model's kernels are normalized over {required} samples (DSS softmax) and "
                    f"are not valid for sequences of {min(found - {required})}"
                )
        x = self.encoder(x)
        for block in self.blocks:
            x = block(x)
        return x

    # As a recurrence

    @property
    def state_width(self) -> int:
        """Floats of state per stream."""
        width = sum(block.systems.state_width for block in self.blocks)
        return width + (self.config.d_model + 1 if self.config.pooling == "mean" else 0)

    def initial_state(self, batch: int = 1) -> Tensor:
        """(batch, state_width) float64 zeros."""
        D = self.blocks[0].systems.D
        return D.new_zeros(batch, self.state_width, dtype=torch.float64)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One sample: ``x`` (batch, d_input), ``state`` (batch, state_width).

        Returns:
            ``y`` (batch, d_output), what `forward` gives for the samples so far, and the next
            state.

        Raises:
            S4EdgeError: the model has no stable recurrence.
        """
        return self._step(x, state, [None] * len(self.blocks))

    def stream(self, x: Tensor) -> Tensor:
        """(batch, length, d_output): the output after each sample, by recurrence from zero state.

        Raises:
            S4EdgeError: the model has no stable recurrence.
        """
        coefficients = [block.systems.coefficients() for block in self.blocks]
        state = self.initial_state(x.shape[0])
        outputs = []
        for sample in x.unbind(dim=1):
            y, state = self._step(sample, state, coefficients)
            outputs.append(y)
        return torch.stack(outputs, dim=1)

    def _step(
        self, x: Tensor, state: Tensor, coefficients: Sequence[Coefficients | None]
    ) -> tuple[Tensor, Tensor]:
        widths = [block.systems.state_width for block in self.blocks]
        *states, pooled = state.split([*widths, state.shape[-1] - sum(widths)], dim=-1)
        x = self.encoder(x)
        new_states = []
        for block, block_state, c in zip(self.blocks, states, coefficients, strict=True):
            x, block_state = block.step(x, block_state, c)
            new_states.append(block_state)
        if self.config.pooling == "mean":
            mean, seen = pooled[:, :-1], pooled[:, -1:] + 1
            mean = mean + (x - mean) / seen
            new_states += [mean, seen]
            x = mean.to(x.dtype)
        return self._decode(x), torch.cat(new_states, dim=-1)

    def parameter_count(self) -> int:
        """Numbers that the model holds."""
        return sum(parameter.numel() for parameter in self.parameters())
