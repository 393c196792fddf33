"""Reduction inside a live torch module of the user's own: layers are replaced where they stand."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from s4edge.checkpoints import bare_layer, families
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.layer_readers import find_reader
from s4edge.checkpoints.live_module import carried_facts
from s4edge.checkpoints.tensors import Tensors
from s4edge.compression.compress import compress_model
from s4edge.errors import S4EdgeError
from s4edge.model.block import Block
from s4edge.model.history import last_compression
from s4edge.model.sequence_model import SequenceModel
from s4edge.workflows.kernels_in_place import (
    compressed_kernel,
    find_kernels,
    kernel_of,
    read_kernel,
    trial_length,
)

# Of the largest output: upstream's own float32 rounding stays far below it.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class ReplacedLayer:
    """What happened to one layer's systems.

    Attributes:
        name: of the module that was replaced.
        real_states_before: of all its channels.
        real_states_after: of all its channels.
        error: the largest measured H-infinity error of a channel.
        error_bound: the largest bound of a channel, or None where the method has none.
    """

    name: str
    real_states_before: int
    real_states_after: int
    error: float
    error_bound: float | None


class CompressedLayer(nn.Module):
    """A reduced layer in the place of upstream's: the same shapes, ``(y, None)`` as output.

    It runs and trains as a convolution. Dropout inside the layer is gone.

    Args:
        model: the layer alone, as a model.
    """

    def __init__(self, model: SequenceModel) -> None:
        super().__init__()
        config = model.config
        self.block: Block = model.blocks[0]
        self.transposed = config.channels_first
        self.d_model = config.d_model
        self.d_output = config.d_output
        self.length = config.length

    def forward(
        self,
        u: Tensor,
        state: None = None,
        rate: float = 1.0,
        lengths: Tensor | int | None = None,
        padding_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """Run whole sequences.

        Args:
            u: (batch, d_model, length), or (batch, length, d_model) where not ``transposed``.
            state: only None; a layer's state is not upstream's any more.
            rate: only 1.
            lengths: samples that count; those behind them are taken as zero.
            padding_mask: (batch, length) where samples are taken as zero, as Mega's layer has it.
            **kwargs: without meaning here, as in upstream's layers.

        Raises:
            S4EdgeError: an argument asks for what a reduced layer cannot do.
        """
        if state is not None or rate != 1:
            raise S4EdgeError("a compressed layer takes no state and no rate other than 1")
        x = u.mT if self.transposed else u
        if self.length is not None and x.shape[1] != self.length:
            raise S4EdgeError(
                f"the layer's kernels are normalized over {self.length} samples and are not valid "
                f"for sequences of {x.shape[1]}"
            )
        if lengths is not None:
            ends = torch.as_tensor(lengths, device=x.device).reshape(-1, 1, 1)
            x = x * (torch.arange(x.shape[1], device=x.device)[:, None] < ends)
        if padding_mask is not None:
            x = x.masked_fill(padding_mask.bool()[..., None], 0)
        y: Tensor = self.block(x)
        return (y.mT if self.transposed else y), None


def compress_(
    module: nn.Module, state: int, facts: Mapping[str, Any] | None = None
) -> list[ReplacedLayer]:
    """Replace every S4, S4D or DSS layer inside a module by one of a smaller state size.

    Of layers of other kinds around the same kernels (H3, S4ND, Mega's block) the kernels are
    replaced. All are found by their parameters' names and shapes and by what they compute: the
    output of each is compared with what was read of it. If one fails, nothing is changed.

    Args:
        module: changed in place; its layers take (batch, features, length), or (batch, length,
            features) with an attribute ``transposed`` that is false, and return ``(y, state)``.
        state: the new state size, in the layers' own count of ``d_state``.
        facts: what neither parameters nor attributes tell, by upstream's names
            (``{"disc": "bilinear", "length": 784}``), for all layers.

    Returns:
        What happened to each layer, in the order of ``module.named_modules()``; the backward
        systems of bidirectional layers stand for themselves.

    Raises:
        S4EdgeError: there is no such layer, or one cannot be read or reduced, or it does not
            compute what was read.
    """
    layers = _find(module)
    kernels = find_kernels(module, layers.values())
    found = {**layers, **kernels}
    if not found:
        raise S4EdgeError(
            f"{type(module).__name__} holds no layer whose parameters are those of an S4, S4D or "
            "DSS layer, and no kernel of one"
        )
    replacements: dict[nn.Module, nn.Module] = {}
    report: list[ReplacedLayer] = []
    for name, layer in found.items():
        if layer is module:
            raise S4EdgeError(
                f"{type(module).__name__} is such a layer itself and cannot be replaced in place: "
                "give the module that holds it, or torch.nn.Sequential(layer)"
            )
        read = _read_kernel if name in kernels else _read
        original, y = read(name, layer, dict(facts or {}))
        small = compress_model(original, state)
        new = compressed_kernel(small, y) if name in kernels else CompressedLayer(small)
        new = new.to(_device(layer)).train(layer.training)
        replacements[layer] = new.double() if _dtype(layer) == torch.float64 else new
        report += _told(name, small)
    for parent in list(module.modules()):
        # Not named_children, which names a child once that has several names.
        for key, child in list(parent._modules.items()):
            if child is not None and child in replacements:
                setattr(parent, key, replacements[child])
    return report


def _told(name: str, small: SequenceModel) -> list[ReplacedLayer]:
    told = last_compression(small.provenance.history)
    assert told is not None
    return [
        ReplacedLayer(
            name=name + layer.name.removeprefix("layer"),
            real_states_before=layer.real_states_before,
            real_states_after=layer.real_states_after,
            error=layer.error,
            error_bound=layer.error_bound,
        )
        for layer in told.layers
    ]


def _find(module: nn.Module) -> dict[str, nn.Module]:
    """The innermost modules whose state dict a reader claims, by name."""
    claimed = {
        name: each
        for name, each in module.named_modules()
        if find_reader(tensors := _tensors(name, each)) and not families.refusal(tensors.names())
    }
    # A module around a layer called "layer" has an S4Block's names.
    return {
        name: each
        for name, each in claimed.items()
        if not any(other is not each and other in set(each.modules()) for other in claimed.values())
    }


def _tensors(name: str, layer: nn.Module) -> Tensors:
    state = {key: value.detach().cpu() for key, value in layer.state_dict().items()}
    return Tensors(Path(name or type(layer).__name__), state)


def _device(layer: nn.Module) -> torch.device:
    return next(layer.parameters(), torch.empty(0)).device


def _dtype(layer: nn.Module) -> torch.dtype:
    tensors = layer.state_dict().values()
    return next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)


def _read(name: str, layer: nn.Module, facts: dict[str, Any]) -> tuple[SequenceModel, Tensor]:
    """A layer as a model, checked against what it computes, and what it computed."""
    # Facts that are given win over attributes; one that is in both is not said twice.
    tensors = _tensors(name, layer)
    reader = find_reader(tensors)
    assert reader is not None  # that is how it was found
    carried = {k: v for k, v in carried_facts(layer, reader).items() if k not in facts}
    model = bare_layer.read(tensors, Facts(tensors.path, facts, carried))
    x = _trial_input(model, layer, facts)
    y = _run(name, layer, f"{tuple(x.shape)} samples", x)
    with torch.no_grad():
        ours = model(x.cpu().float())
    _compare(name, model, y, ours)
    return model, y


def _read_kernel(
    name: str, kernel: nn.Module, facts: dict[str, Any]
) -> tuple[SequenceModel, Tensor]:
    """The same of a kernel."""
    model = read_kernel(name, kernel, facts)
    length = trial_length(model, facts)
    y = _run(name, kernel, f"a length of {length}", L=length)
    with torch.no_grad():
        ours = kernel_of(model, length).float()
    _compare(name, model, y, ours.reshape(y.shape) if y.numel() == ours.numel() else ours)
    return model, y


def _compare(name: str, model: SequenceModel, y: Tensor, ours: Tensor) -> None:
    """Raises S4EdgeError where a module computes something else than was read of it."""
    same = isinstance(y, Tensor) and y.shape == ours.shape
    largest = float(ours.abs().max())
    difference = float((y.cpu().float() - ours).abs().max()) if same else float("inf")
    if not difference <= _TOLERANCE * largest:
        assumed = ", ".join(f"{key}={value}" for key, value in model.provenance.assumed.items())
        raise S4EdgeError(
            f"{name}: it computes something else than was read of it (by {difference:.2g} where "
            f"outputs reach {largest:.2g}); say what is other in facts. "
            f"Assumed: {assumed or 'nothing'}"
        )


def _run(name: str, layer: nn.Module, on: str, *arguments: Any, **words: Any) -> Any:
    """A module's output in eval mode, the first of several; the module is left as it was."""
    # An S4 layer may rewrite its parameters, its buffers and numbers beside them as it runs.
    try:
        running, state = copy.deepcopy(layer), None
    except Exception:  # whatever a module of the user's own says to being copied
        running, state = layer, {key: value.clone() for key, value in layer.state_dict().items()}
    training = {each: each.training for each in running.modules()}
    try:
        with torch.no_grad():
            output = running.eval()(*arguments, **words)
            return output[0] if isinstance(output, tuple) else output
    except (TypeError, ValueError, RuntimeError, AssertionError, IndexError) as error:
        reason = " ".join(str(error).split())[:120]
        raise S4EdgeError(
            f"{name}: it does not run on {on} ({reason}), as an S4, S4D or DSS layer or its "
            "kernel does"
        ) from error
    finally:
        if state is not None:
            layer.load_state_dict(state)
        for each, mode in training.items():
            each.training = mode


def _trial_input(model: SequenceModel, layer: nn.Module, facts: Mapping[str, Any]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    length = trial_length(model, facts)
    x = torch.randn(2, length, model.config.d_input, generator=generator)
    x = x.mT if model.config.channels_first else x
    return x.to(_device(layer), _dtype(layer))
