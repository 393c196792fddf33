"""One process or several that share every batch (``torchrun``)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Processes:
    """Attributes: ``rank`` of this one, how many there are (``world``), and its ``device``."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this one writes files and talks."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Rows of this process of so many."""
        return slice(self.rank * count // self.world, (self.rank + 1) * count // self.world)

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, with gradients averaged over processes if there are several."""
        if self.world == 1:
            return module
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=ids)

    def total(self, values: Tensor) -> Tensor:
        """Summed over processes."""
        if self.world > 1:
            distributed.all_reduce(values)
        return values

    def meet(self) -> None:
        """Wait for all."""
        if self.world > 1:
            distributed.barrier()


@contextlib.contextmanager
def open_processes(device: str) -> Iterator[Processes]:
    """Join those that ``torchrun`` has started, or be the only one.

    Args:
        device: "cpu", "cuda", or "auto" for CUDA where there is one.
    """
    kind = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    place = torch.device(kind, local) if kind == "cuda" else torch.device(kind)
    if world == 1:
        yield Processes(device=place)
        return
    distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), world, place)
    finally:
        distributed.destroy_process_group()
