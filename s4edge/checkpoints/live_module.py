"""Facts that a live layer of upstream's carries beside its tensors."""

from __future__ import annotations

from typing import Any

from torch import nn

from s4edge.checkpoints.upstream_layer import LayerReader

_ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.Identity: "id",
    nn.GELU: "gelu",
    nn.ReLU: "relu",
    nn.ELU: "elu",
    nn.SiLU: "silu",
    nn.Sigmoid: "sigmoid",
    nn.Softplus: "softplus",
    nn.Tanh: "tanh",
    nn.GLU: "glu",
}


def carried_facts(layer: nn.Module, reader: LayerReader) -> dict[str, Any]:
    """What a layer's attributes say; what is wrong of it shows in what the layer computes."""
    facts: dict[str, Any] = {}
    for path, name in reader.attributes.items():
        value = _at(layer, path)
        if isinstance(value, str | int | float):
            facts[name] = value
    for path, name in reader.activations.items():
        known = _ACTIVATIONS.get(type(_at(layer, path)))
        if known is not None:
            facts[name] = known
    return facts


def _at(module: Any, path: str) -> Any:
    """An attribute of a module's parts, None where there is none."""
    for name in path.split("."):
        if name == "-1":
            module = module[-1] if isinstance(module, nn.Sequential) else None
        else:
            module = getattr(module, name, None)
    return module
