"""A model as it is trained: its dense layers as they are, its systems by their coordinates.

A batch goes through in parts that the processor's caches hold, and whose memory is used again for
the next part; kernels are formed once for all parts, and their gradients taken back through poles
and weights once. So peak memory does not grow with the batch, and steps of long sequences are
several times as fast. Each thread has a part of its own (`s4edge.training.threads`).
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from s4edge.errors import S4EdgeError
from s4edge.model.dropout import Dropout
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.base import Systems
from s4edge.training.batches import Batch
from s4edge.training.threads import each_in_order, threads_for

# Numbers of one activation of a part: 2 MB, or less where there is a thread for it.
_PART, _LEAST = 1 << 19, 1 << 17

Loss = Callable[[Batch, Tensor, list[Tensor]], Tensor]


class _Response(nn.Module):
    def __init__(self, systems: Systems) -> None:
        super().__init__()
        self.systems = systems

    def forward(self, length: int) -> Tensor:
        return self.systems.response(length)


@dataclass(frozen=True)
class _Moved:
    """Systems and what moves them. Attributes: ``name`` in the model, index of the ``block``."""

    name: str
    block: int
    systems: Systems
    coordinates: nn.Module


class Trainable(nn.Module):
    """One module whose parameters are all trained, as DistributedDataParallel wants it.

    Args:
        model: a copy of it is trained.
        length: of the sequences.

    Raises:
        S4EdgeError: its batch norms take statistics over the batch, or there is nothing to train.
    """

    def __init__(self, model: SequenceModel, length: int) -> None:
        super().__init__()
        if model.config.looks_across_the_batch:
            raise S4EdgeError(
                "the model's batch norms keep no statistics: what they compute depends on which "
                "sequences come together, and training takes a batch part by part"
            )
        self.model = copy.deepcopy(model).requires_grad_(True).train().set_fast(True)
        self.coordinates = nn.ModuleList()
        self.moved: list[_Moved] = []
        for index, block in enumerate(self.model.blocks):
            for name, systems in (
                ("systems", block.systems),
                ("backward_systems", block.backward_systems),
            ):
                coordinates = None if systems is None else systems.coordinates(length)
                if systems is not None and coordinates is not None:
                    systems.requires_grad_(False)
                    self.coordinates.append(coordinates)
                    self.moved.append(_Moved(f"blocks.{index}.{name}", index, systems, coordinates))
        if not any(each.requires_grad and each.numel() for each in self.parameters()):
            raise S4EdgeError("the model has no numbers that could be trained")

    # The loss of a batch

    def forward(self, batch: Batch, loss: Loss) -> Tensor:
        """The loss of a batch, part by part; its gradients are known before `backward` is called.

        Args:
            batch: in one process.
            loss: of a part, from the output and what leaves each block (`SequenceModel.trace`);
                those of all parts add up.
        """
        if not torch.is_grad_enabled():
            with self._held(batch.x, leaves=None):
                return torch.stack([self._loss(part, loss) for part in self._parts(batch)]).sum()
        parameters = [each for each in self.parameters() if each.requires_grad and each.numel()]
        value, gradients = self._accumulated(batch, loss, parameters)
        known: Tensor = _Known.apply(value, gradients, *parameters)
        return known

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        """Of the batch: none too large, and one for each thread where they are not too small."""
        samples = batch.x.shape[2 if self.model.config.channels_first else 1]
        floats = max(1, samples * self.model.config.d_model)
        share = -(-len(batch.x) // self._threads(batch.x))
        return batch.parts(max(1, min(_PART // floats, max(share, _LEAST // floats))))

    def _threads(self, x: Tensor) -> int:
        """That are worth beginning for a batch."""
        floats = x.shape[0] * x.shape[2 if self.model.config.channels_first else 1]
        return threads_for(x) if floats * self.model.config.d_model > _LEAST else 1

    def _loss(self, part: Batch, loss: Loss) -> Tensor:
        dropout = self.model.blocks[0].dropout
        if dropout is not None:
            dropout.begin(part.rows)
        return loss(part, *self.model.trace(part.x, part.lengths))

    def _accumulated(
        self, batch: Batch, loss: Loss, parameters: list[nn.Parameter]
    ) -> tuple[Tensor, list[Tensor]]:
        of_coordinates = {id(each) for each in self.coordinates.parameters()}
        plain = [each for each in parameters if id(each) not in of_coordinates]
        leaves: list[Tensor] = []
        value: Tensor | float = 0.0
        threads = self._threads(batch.x)
        with self._held(batch.x, leaves) as responses:
            wanted = [*plain, *leaves]
            sums = [torch.zeros_like(each) for each in wanted]

            def of_part(part: Batch) -> tuple[Tensor, tuple[Tensor | None, ...]]:
                share = self._loss(part, loss)
                return share.detach(), torch.autograd.grad(share, wanted, allow_unused=True)

            for share, found in each_in_order(of_part, list(self._parts(batch)), threads):
                for total, gradient in zip(sums, found, strict=True):
                    if gradient is not None:
                        total += gradient
                value = value + share
        assert isinstance(value, Tensor)
        known = {id(each): gradient for each, gradient in zip(plain, sums, strict=False)}

        def of_system(index: int) -> dict[int, Tensor]:
            moving = [
                each
                for each in self.moved[index].coordinates.parameters()
                if each.requires_grad and each.numel()
            ]
            if not moving:
                return {}
            gradient = sums[len(plain) + index]
            through = torch.autograd.grad(responses[index], moving, gradient, allow_unused=True)
            return {
                id(each): torch.zeros_like(each) if its is None else its
                for each, its in zip(moving, through, strict=True)
            }

        for gradients in each_in_order(of_system, range(len(responses)), threads):
            known |= gradients
        return value, [known[id(each)] for each in parameters]

    @contextlib.contextmanager
    def _held(self, x: Tensor, leaves: list[Tensor] | None) -> Iterator[list[Tensor]]:
        """Responses formed once for all parts, and cut from their graph into ``leaves`` if given.

        Yields:
            The responses, with their graph.
        """
        length = x.shape[2 if self.model.config.channels_first else 1]
        lengths = self.model.config.samples_entering(length)
        keep_graph = torch.is_grad_enabled()

        def response_of(each: _Moved) -> Tensor:
            with torch.set_grad_enabled(keep_graph):  # a setting of each thread's own
                values = {f"systems.{name}": value for name, value in each.coordinates().items()}
                found: Tensor = functional_call(
                    _Response(each.systems), values, (lengths[each.block],)
                )
                return found

        responses = list(each_in_order(response_of, self.moved, self._threads(x)))
        for each, response in zip(self.moved, responses, strict=True):
            if leaves is not None:
                response = response.detach().requires_grad_()
                leaves.append(response)
            each.systems.hold_({lengths[each.block]: (response, None)})
        try:
            yield responses
        finally:
            for each in self.moved:
                each.systems.hold_(None)

    # What it is

    def trace(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """Sequences at once, as `SequenceModel.trace`."""
        with self._held(x, leaves=None):
            return self.model.trace(x, lengths)

    def values(self) -> dict[str, Tensor]:
        """Parameters of all systems as they are now, by their name in the model."""
        return {
            f"{each.name}.{key}": value
            for each in self.moved
            for key, value in each.coordinates().items()
        }

    def set_dropout(self, dropout: Dropout | None) -> None:
        """Of all blocks."""
        for block in self.model.blocks:
            block.dropout = dropout

    @torch.no_grad()
    def written(self) -> SequenceModel:
        """A copy of the model as it is now, on the CPU."""
        model = SequenceModel(self.model.config, copy.deepcopy(self.model.provenance))
        tensors = {**self.model.state_dict(), **self.values()}
        model.load_state_dict(
            {name: value.cpu().clone() for name, value in tensors.items()}, assign=True
        )
        return model.requires_grad_(True).eval()


class _Known(torch.autograd.Function):
    """A value whose gradients have been found already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *_: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        return (None, None, *(gradients[0] * each for each in ctx.gradients))
