"""Kernels inside layers that no reader knows, reduced where they stand.

What a layer does around its convolution (H3's products, S4ND's axes, Mega's attention) is its own;
what its kernel module gives is a list of kernels of diagonal systems, whatever calls it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from s4edge.checkpoints import bare_layer
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.layer_readers import READERS
from s4edge.checkpoints.tensors import Tensors
from s4edge.checkpoints.upstream_layer import LiveKernel
from s4edge.errors import S4EdgeError
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.diagonal import DiagonalSystems

# Samples on which what was read is compared with what runs.
_TRIAL = 64


class CompressedKernel(nn.Module):
    """Reduced kernels in the place of upstream's module: ``(kernels, None)`` for a length.

    Args:
        systems: whose kernels they are.
        like: what upstream's module gives; the shape (but for the length) and the precision stay.
        length: the one length for which they are valid, or None.
    """

    precision: Tensor

    def __init__(self, systems: DiagonalSystems, like: Tensor, length: int | None) -> None:
        super().__init__()
        self.systems = systems
        self.shape = tuple(like.shape[:-1])
        self.length = length
        # Not that of the systems, which are float64 where their weights cancel.
        self.register_buffer("precision", like.new_empty(0), persistent=False)

    def forward(
        self, state: None = None, L: int | None = None, rate: float = 1.0, **kwargs: Any
    ) -> tuple[Tensor, None]:
        """The kernels, (channels, features, L).

        Args:
            state: only None; a kernel's state is not upstream's any more.
            L: samples.
            rate: only 1.
            **kwargs: only without values.

        Raises:
            S4EdgeError: an argument asks for what a reduced kernel cannot do.
        """
        if state is not None or rate != 1 or any(value is not None for value in kwargs.values()):
            raise S4EdgeError("a compressed kernel takes a length, no state, and no rate but 1")
        samples = self.length if L is None else L
        if samples is None:
            raise S4EdgeError("a compressed kernel has to be told its length, L")
        if self.length not in (None, samples):
            raise S4EdgeError(
                f"a compressed kernel that is normalized over {self.length} samples is none of {L}"
            )
        kernel = self.systems.kernel(samples).to(self.precision.dtype)
        return kernel.reshape(*self.shape, samples), None


def find_kernels(module: nn.Module, without: Iterable[nn.Module]) -> dict[str, nn.Module]:
    """Modules of kernels, by name, that lie in none of some modules."""
    inside = {part for each in without for part in each.modules()}
    return {
        name: each
        for name, each in module.named_modules()
        if each not in inside and _form(each) is not None
    }


def _form(module: nn.Module) -> LiveKernel | None:
    own = {name for name, _ in module.named_parameters(recurse=False)}
    own |= {name for name, _ in module.named_buffers(recurse=False)}
    return next((k for reader in READERS for k in reader.kernels if k.marks <= own), None)


def read_kernel(name: str, kernel: nn.Module, facts: Mapping[str, Any]) -> SequenceModel:
    """A module's kernels as a model that does nothing but convolve.

    Args:
        name: of the module, for messages.
        kernel: of `find_kernels`.
        facts: that neither parameters nor attributes tell.

    Raises:
        S4EdgeError: it cannot be read.
    """
    form = _form(kernel)
    assert form is not None  # that is how it was found
    state = {form.prefix + key: value.detach().cpu() for key, value in kernel.state_dict().items()}
    if form.prefix + "C" in state:
        size = state[form.prefix + "C"].shape[:2]
    else:
        systems = len(state[form.prefix + "alpha"])
        size = (len(state[form.prefix + "gamma"]) // systems, systems)
    state[form.feedthrough] = torch.zeros(size)
    carried = {key: getattr(kernel, key, None) for key in form.attributes}
    carried = {k: v for k, v in carried.items() if isinstance(v, str | int | float)}
    tensors = Tensors(Path(name), state)
    saved = {k: v for k, v in {**form.facts, **carried}.items() if k not in facts}
    return bare_layer.read(tensors, Facts(tensors.path, facts, saved))


def trial_length(model: SequenceModel, facts: Mapping[str, Any]) -> int:
    """Samples on which a kernel or a layer is compared with what was read of it."""
    return model.config.length or facts.get("length") or _TRIAL


def compressed_kernel(model: SequenceModel, like: Tensor) -> CompressedKernel:
    """The module for a model of `read_kernel`, reduced; ``like`` is what the original gave."""
    return CompressedKernel(_systems(model), like, model.config.length)


def kernel_of(model: SequenceModel, samples: int) -> Tensor:
    """(kernels, samples) of a model of `read_kernel`."""
    return _systems(model).kernel(samples)


def _systems(model: SequenceModel) -> DiagonalSystems:
    systems = model.blocks[0].systems
    assert isinstance(systems, DiagonalSystems)  # as `read_kernel` made it
    return systems
