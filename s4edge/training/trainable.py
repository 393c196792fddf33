"""A model as it is trained: its dense layers as they are, its systems by their coordinates."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call

from s4edge.model.dropout import Dropout
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems import DiagonalSystems
from s4edge.training.coordinates import Coordinates


class _Traced(nn.Module):
    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        return self.model.trace(x, lengths)


class Trainable(nn.Module):
    """One module whose parameters are all trained, as DistributedDataParallel wants it.

    Args:
        model: a copy of it is trained.
        length: of the sequences.
    """

    def __init__(self, model: SequenceModel, length: int) -> None:
        super().__init__()
        copied = copy.deepcopy(model).requires_grad_(True).train()
        self.traced = _Traced(copied.set_fast(True))
        self.names: list[str] = []
        self.coordinates = nn.ModuleList()
        for name, module in self.traced.named_modules():
            if isinstance(module, DiagonalSystems):
                module.requires_grad_(False)
                self.names.append(name)
                self.coordinates.append(Coordinates(module, length))

    @property
    def model(self) -> SequenceModel:
        """The copy; its systems are those of the start until `written` is asked for."""
        return self.traced.model

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """The output and what leaves each block; see `SequenceModel.trace`."""
        out: tuple[Tensor, list[Tensor]] = functional_call(self.traced, self.values(), (x, lengths))
        return out

    def values(self) -> dict[str, Tensor]:
        """Parameters of all systems as they are now, by name."""
        return {
            f"{name}.{key}": value
            for name, each in zip(self.names, self.coordinates, strict=True)
            for key, value in each().items()
        }

    def set_dropout(self, dropout: Dropout | None) -> None:
        """Of all blocks."""
        for block in self.model.blocks:
            block.dropout = dropout

    @torch.no_grad()
    def written(self) -> SequenceModel:
        """A copy of the model as it is now, on the CPU."""
        model = SequenceModel(self.model.config, copy.deepcopy(self.model.provenance))
        tensors = {**self.model.state_dict()}
        for name, value in self.values().items():
            tensors[name.removeprefix("model.")] = value
        model.load_state_dict(
            {name: value.cpu().clone() for name, value in tensors.items()}, assign=True
        )
        return model.requires_grad_(True).eval()
