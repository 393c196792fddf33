"""Whole models of upstream's ``example.py``: encoder, residual blocks, mean pooling, decoder."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from s4edge.checkpoints import dss, s4block, s4d
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.layer import Layer, LayerReader
from s4edge.checkpoints.tensors import Tensors
from s4edge.errors import S4EdgeError
from s4edge.model.configuration import BlockConfig, ModelConfig, NormPlacement
from s4edge.model.sequence_model import Provenance, SequenceModel
from s4edge.model.systems import DiagonalSystems

LAYER_READERS = (s4d.READER, s4block.READER, dss.READER)
SIDECAR_CLASS = "example.S4Model"


def claims(names: set[str]) -> bool:
    """Whether a state dict with these names is of this backbone."""
    return any(name.startswith("s4_layers.") for name in names)


def flatten_sidecar(config: dict[str, Any]) -> dict[str, Any]:
    """One level of facts from the constructor's arguments and those of its layers.

    Raises:
        S4EdgeError: ``layer_kwargs`` is no object.
    """
    config = dict(config)
    layer_options = config.pop("layer_kwargs", None) or {}
    if not isinstance(layer_options, dict):
        raise S4EdgeError("the sidecar's layer_kwargs is no JSON object; mend or remove it")
    return {**config, **layer_options}


def read(tensors: Tensors, facts: Facts) -> SequenceModel:
    """Read a whole model.

    Raises:
        S4EdgeError: a tensor is missing, left over or wrong, or a fact is missing.
    """
    d_model, d_input = tensors.shape("encoder.weight", "d_model", "d_input")
    d_output, _ = tensors.shape("decoder.weight", "d_output", "d_model")
    for key, value in (("d_input", d_input), ("d_output", d_output), ("d_model", d_model)):
        facts.infer(key, value)
    facts.ignore("dropout")
    count = facts.infer("n_layers", _count_layers(tensors))
    reader = _recognize(tensors, facts)
    placement: NormPlacement = (
        "pre" if facts.get("prenorm", False, allowed=(False, True)) else "post"
    )
    # What overflows is refused when the systems are built.
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        layers = [
            reader.read(tensors.under(f"s4_layers.{index}."), facts, d_model)
            for index in range(count)
        ]
    systems = [_systems(tensors, index, layer) for index, layer in enumerate(layers)]
    lengths = {layer.length for layer in layers}
    config = ModelConfig(
        d_input=d_input,
        d_output=d_output,
        d_model=d_model,
        encoder="linear",
        blocks=tuple(
            BlockConfig(
                name=f"s4_layers.{index}",
                systems=systems[index].config,
                norm="layer",
                norm_placement=placement,
                norm_epsilon=1e-5,
                residual=True,
                activation=layer.activation,
                mixing="linear",
                final_activation=layer.final_activation,
            )
            for index, layer in enumerate(layers)
        ),
        pooling="mean",
        decoder="linear",
        length=lengths.pop(),
    )
    model = SequenceModel(config)
    _fill(model.encoder, tensors, "encoder.", d_model, d_input)
    _fill(model.decoder, tensors, "decoder.", d_output, d_model)
    for index, (block, layer) in enumerate(zip(model.blocks, layers, strict=True)):
        block.systems = systems[index]
        _copy(block.mixing, layer.mixing_weight, layer.mixing_bias)
        _fill(block.norm, tensors, f"norms.{index}.", d_model)
    tensors.finish()
    facts.finish()
    model.provenance = Provenance(
        source=tensors.path.name,
        format=f"example.py backbone, {reader.name}",
        inferred=facts.inferred,
        assumed=facts.assumed,
        given=facts.given,
    )
    return model.eval()


def _count_layers(tensors: Tensors) -> int:
    found = {
        int(match.group(1))
        for name in tensors.names()
        if (match := re.match(r"s4_layers\.(\d+)\.", name))
    }
    return max(found) + 1


def _recognize(tensors: Tensors, facts: Facts) -> LayerReader:
    first = tensors.under("s4_layers.0.")
    for reader in LAYER_READERS:
        if reader.claims(first):
            # A sidecar names the class; in our own words it is the reader's name.
            if facts.saved.get("layer") in reader.classes:
                facts.saved["layer"] = reader.name
            facts.infer("layer", reader.name)
            return reader
    raise S4EdgeError(
        f"{tensors.path}: the layers under s4_layers.0 are of no known kind; known: "
        + ", ".join(reader.name for reader in LAYER_READERS)
    )


def _systems(tensors: Tensors, index: int, layer: Layer) -> DiagonalSystems:
    try:
        return DiagonalSystems.from_modes(
            layer.modes,
            layer.D,
            kind=layer.kind,
            state_size=layer.state_size,
            states_per_size=layer.states_per_size,
            length=layer.length,
        )
    except S4EdgeError as error:
        raise S4EdgeError(f"{tensors.path}: s4_layers.{index}: {error}") from error


def _fill(module: torch.nn.Module, tensors: Tensors, prefix: str, *shape: int) -> None:
    """Copy ``weight`` of this shape and ``bias`` of its first axis into a module."""
    _copy(module, tensors.take(prefix + "weight", *shape), tensors.take(prefix + "bias", shape[0]))


def _copy(module: torch.nn.Module, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> None:
    with torch.no_grad():
        module.get_parameter("weight").copy_(torch.from_numpy(weight))
        module.get_parameter("bias").copy_(torch.from_numpy(bias))
