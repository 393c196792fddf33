"""The one form of model: encoder, blocks, pooling, decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from s4edge.errors import S4EdgeError
from s4edge.model.block import Block
from s4edge.model.configuration import ModelConfig, Pooling
from s4edge.model.head import Head
from s4edge.model.history import Entry
from s4edge.model.joining import hold, join, join_step, state_widths
from s4edge.model.norms import make_norm
from s4edge.model.pooling import pool, pool_running, pool_step, state_width
from s4edge.model.systems.base import Systems
from s4edge.model.time_last import linear_time_last, norm


@dataclass
class Provenance:
    """Where a model came from and what was done to it.

    Attributes:
        source: name of the file that it was first read from.
        format: the layout recognized there, in words.
        inferred: facts read off the tensors.
        assumed: facts that the file does not hold, taken as upstream's default.
        given: facts from the saved configuration, the sidecar or ``--set``.
        notes: what a person should know about how it was read.
        history: one entry per compression or training, oldest first.
    """

    source: str = ""
    format: str = ""
    inferred: dict[str, Any] = field(default_factory=dict)
    assumed: dict[str, Any] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    history: list[Entry] = field(default_factory=list)


def _projection(kind: str, width_in: int, width_out: int) -> nn.Module:
    if kind == "embedding":
        return nn.Embedding(width_in, width_out)
    return nn.Linear(width_in, width_out) if kind == "linear" else nn.Identity()


def _where(rows: Tensor | None, value: Tensor, other: Tensor) -> Tensor:
    """(batch, ...) of some rows the one, of all others the other; None for all rows."""
    return value if rows is None else torch.where(rows[:, None], value, other)


class SequenceModel(nn.Module):
    """A model that runs as a convolution over whole sequences and, sample by sample, recurrently.

    The recurrence carries one packed state (batch, `state_width`): the states of the blocks'
    systems in order, each with that of a window that it joins to one sample, then the pooling's and
    the answer that is held. It is float64 whatever the parameters are: this recurrence is what the
    graphs are checked against.
    """

    # A ModuleList, which torch's types do not make generic.
    blocks: Sequence[Block]

    def __init__(self, config: ModelConfig, provenance: Provenance | None = None) -> None:
        super().__init__()
        self.config = config
        self.provenance = provenance or Provenance()
        # The order of activations in memory: faster, and rounded a little differently.
        self.time_last = False
        joined = config.input_stride if config.encoder == "linear" else 1
        self.encoder = _projection(config.encoder, config.d_input * joined, config.d_model)
        # A block behind a stride sees fewer samples.
        lengths: list[int | None] = [None] * len(config.blocks)
        if config.length is not None:
            lengths = [*config.samples_entering(config.length)]
        self.blocks = nn.ModuleList(  # type: ignore[assignment]
            Block(block, *config.block_widths(index)[:2], length)
            for index, (block, length) in enumerate(zip(config.blocks, lengths, strict=False))
        )
        features = config.d_features
        self.norm = make_norm(config.final_norm, features, config.norm_epsilon)
        self.decoder = _projection(config.decoder, features, config.d_output)
        self.head = None if config.head is None else Head(config.d_output, config.head)

    # As a convolution

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Run whole sequences.

        Args:
            x: (batch, length, d_input); (batch, length) integers for an embedding;
                (batch, d_input, length) for a bare layer with ``channels_first``. Samples at the
                end that make no whole window of a layer behind a stride are not heard.
            lengths: (batch,) samples that count, where sequences are padded at the end. Causal
                systems need it for the pooling only.

        Returns:
            (batch, d_output) with pooling, else (batch, length, d_output), behind strides one for
            each window where answers are not held (several answers:
            (batch, answers, d_output)). With a head, its answers for each pair, (batch / 2, ...):
            the first half of the batch is compared with the second.

        Raises:
            S4EdgeError: ``x`` has another shape, or the model is exact for one length only and
                this is another.
        """
        y = self.answer(x, lengths)
        if self.head is None:
            return y
        if len(y) % 2:
            raise S4EdgeError(
                f"the model compares the first half of a batch with the second, got {len(y)} "
                "sequences"
            )
        compared: Tensor = self.head(*y.chunk(2))
        return compared

    def answer(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What `forward` gives, or what its head would compare, sequence by sequence."""
        return self.decode(self._features(x, lengths), self._samples(x), lengths)

    def trace(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """`forward`'s output, and what leaves each block, (batch, length, its features)."""
        samples = self._samples(x)
        x = self.encode(x, lengths)
        left = []
        for block in self.blocks:
            x = block(x)
            left.append(x)
        return self.decode(norm(self.norm, x), samples, lengths), left

    def running(self, x: Tensor) -> Tensor:
        """(batch, length, d_output): the output after each sample, by convolution.

        What the recurrence gives sample by sample. Raises as `forward` does.
        """
        config = self.config
        features = pool_running(config.running_pooling, self._features(x, None))
        held = self._held(self.decoder(features), self._samples(x))
        return held.mT if config.channels_first else held

    def decode(self, features: Tensor, samples: int, lengths: Tensor | None = None) -> Tensor:
        """The output from what leaves the last norm.

        Args:
            features: (batch, length, d_features).
            samples: of the input.
            lengths: see `forward`.
        """
        config = self.config
        out: Tensor
        if config.held and (config.answers_each_sample or config.answers):
            out = self._held(self.decoder(pool_running(config.running_pooling, features)), samples)
            if not config.answers_each_sample:
                kind: Pooling = "first" if config.pooling == "first" else "last"
                out = pool(kind, out, lengths, config.answers)
        else:
            if not config.takes_padding:
                # It takes none; and behind a stride lengths of the input count nothing.
                lengths = None
            elif lengths is not None:
                lengths = config.samples_entering(lengths)[-1]
            out = self.decoder(pool(config.pooling, features, lengths, config.answers))
        return out.mT if config.channels_first else out

    def _held(self, y: Tensor, samples: int) -> Tensor:
        return hold(y, samples, self.config.stride, self.config.first_answer)

    def _samples(self, x: Tensor) -> int:
        """Of the input, as `forward` takes it."""
        return x.shape[2 if self.config.channels_first else 1]

    def _features(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        x = self.encode(x, lengths)
        for block in self.blocks:
            x = block(x)
        return norm(self.norm, x)

    def set_fast(self, fast: bool) -> SequenceModel:
        """Convolutions in single precision and activations with time last, or neither.

        For training, where many passes matter more than the last digit.
        """
        self.time_last = fast
        for module in self.modules():
            if isinstance(module, Systems):
                module.transform = torch.float32 if fast else torch.float64
        return self

    def encode(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(batch, length, d_model) what enters the first block. See `forward` for arguments."""
        x = self.checked(x, lengths)
        stride = self.config.input_stride
        if isinstance(self.encoder, nn.Linear):
            x = join("stack", stride, x)
            if self.time_last:
                return linear_time_last(self.encoder, x)
            return self.encoder(x)
        out = join("mean", stride, self.encoder(x))
        return out.mT.contiguous().mT if self.time_last else out

    def checked(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``x`` as (batch, length, d_input) or (batch, length). Raises as `forward` does."""
        config = self.config
        x = self._check_shape(x)
        length = x.shape[1]
        shortest = length if lengths is None else int(lengths.min())
        if config.samples_entering(shortest)[-1] == 0:
            raise S4EdgeError(
                f"the model makes one sample of {config.stride}: {shortest} are too few"
            )
        if config.length is not None:
            found = {length} if lengths is None else set(lengths.tolist())
            if found != {config.length}:
                other = min(found - {config.length})
                raise S4EdgeError(
                    f"the model's kernels are for {config.length} samples (normalized over them, "
                    f"stretched to them, or growing) and are not valid for sequences of {other}; "
                    f"its checkpoint can be read for those with --set length={other}"
                )
        if lengths is not None and not config.takes_padding and (lengths != length).any():
            why = config.cannot_stream or f"the model answers once for {config.stride} samples"
            raise S4EdgeError(f"sequences must come without padding: {why}")
        return x

    def _check_shape(self, x: Tensor) -> Tensor:
        """(batch, length, d_input), or (batch, length) tokens."""
        config = self.config
        if config.encoder == "embedding":
            whole = x.ndim == 2 and 0 not in x.shape and not x.is_floating_point()
            if not whole or x.min() < 0 or x.max() >= config.d_input:
                raise S4EdgeError(
                    f"the model takes (batch, length) whole tokens from 0 to {config.d_input - 1}, "
                    f"got {tuple(x.shape)}"
                )
            return x
        expected = f"(batch, length, {config.d_input})"
        if config.channels_first:
            expected, x = f"(batch, {config.d_input}, length)", x.mT if x.ndim == 3 else x
        if x.ndim != 3 or x.shape[2] != config.d_input or x.shape[1] == 0:
            shape = tuple(x.mT.shape) if config.channels_first and x.ndim == 3 else tuple(x.shape)
            raise S4EdgeError(f"the model takes {expected}, got {shape}")
        return x

    # As a recurrence

    @property
    def state_width(self) -> int:
        """Floats of state per stream."""
        return sum(self._state_widths)

    @property
    def _state_widths(self) -> list[int]:
        """Of what the input joins, of each block, of the pooling, of the answer that is held."""
        config = self.config
        features = config.d_input if config.encoder == "linear" else config.d_model
        return [
            sum(state_widths(config.input_joining, config.input_stride, features)),
            *(block.state_width for block in self.blocks),
            state_width(config.running_pooling, config.d_features),
            0 if config.stride == 1 else config.d_output + 1,
        ]

    def initial_state(self, batch: int = 1) -> Tensor:
        """(batch, state_width) float64 zeros."""
        device = next(self.parameters(), torch.empty(0)).device
        return torch.zeros(batch, self.state_width, dtype=torch.float64, device=device)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One sample: ``x`` (batch, d_input) or (batch,) tokens, ``state`` (batch, state_width).

        Returns:
            ``y`` (batch, d_output), what `answer` gives for the samples so far (the last of several
            answers), and the next state.

        Raises:
            S4EdgeError: the model has no stable recurrence.
        """
        return self._step(x, state, self._coefficients())

    def stream(self, x: Tensor) -> Tensor:
        """(batch, length, d_output): the output after each sample, by recurrence from zero state.

        Raises:
            S4EdgeError: the model has no stable recurrence, ``x`` has another shape or is longer
                than the recurrence is exact.
        """
        coefficients = self._coefficients()
        exact, length = self.config.exact_samples, x.shape[2 if self.config.channels_first else 1]
        if exact is not None and length > exact:
            raise S4EdgeError(
                f"the model's kernels are cut at {exact} samples, which a recurrence cannot do: "
                f"streamed, it is exact for {exact} samples, not {length}"
            )
        state = self.initial_state(x.shape[0])
        outputs = []
        for sample in self._check_shape(x).unbind(dim=1):
            y, state = self._step(sample, state, coefficients)
            outputs.append(y)
        return torch.stack(outputs, dim=2 if self.config.channels_first else 1)

    def _coefficients(self) -> list[Any]:
        if self.config.cannot_stream is not None:
            raise S4EdgeError(f"the model has no stable recurrence: {self.config.cannot_stream}")
        return [block.systems.coefficients() for block in self.blocks]

    def _step(self, x: Tensor, state: Tensor, coefficients: Sequence[Any]) -> tuple[Tensor, Tensor]:
        config = self.config
        window, *states, pooled, held = state.split(self._state_widths, dim=-1)
        ready: Tensor | None = None
        if config.encoder != "linear":
            x = self.encoder(x)
        if config.input_stride != 1:
            x, ready, window = join_step(config.input_joining, config.input_stride, x, window)
        if config.encoder == "linear":
            x = self.encoder(x)
        new_states = [window]
        for block, before, c in zip(self.blocks, states, coefficients, strict=True):
            if ready is not None and not ready.any():
                new_states.append(before)
                continue
            x, leaves, after = block.step(x, before, c)
            new_states.append(_where(ready, after, before))
            if leaves is not None:
                ready = leaves if ready is None else ready & leaves
        if ready is None:
            x, pooled = pool_step(config.running_pooling, self.norm(x), pooled)
            y: Tensor = self.decoder(x)
            return y, torch.cat([*new_states, pooled], dim=-1)
        y, seen = held[:, :-1], (held[:, -1:] + 1) % config.stride
        if ready.any():
            x, after = pool_step(config.running_pooling, self.norm(x), pooled)
            pooled, y = _where(ready, after, pooled), _where(ready, self.decoder(x).double(), y)
        return y.to(x.dtype), torch.cat([*new_states, pooled, y, seen], dim=-1)

    @property
    def dtype(self) -> torch.dtype:
        """What it takes: a float32 model may hold systems in float64 (weights that cancel)."""
        single = any(parameter.dtype == torch.float32 for parameter in self.parameters())
        return torch.float32 if single else torch.float64

    def parameter_count(self) -> int:
        """Numbers that the model holds."""
        return sum(parameter.numel() for parameter in self.parameters())
