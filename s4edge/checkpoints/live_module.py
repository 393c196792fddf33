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
# Upstream's own, by the names of their classes.
_OWN_ACTIVATIONS = {"SquaredReLU": "sqrelu", "Laplace": "laplace"}


def carried_facts(layer: nn.Module, reader: LayerReader) -> dict[str, Any]:
    """What a layer's attributes say; what is wrong of it shows in what the layer computes."""
    facts: dict[str, Any] = {}
    for path, name in reader.attributes.items():
        value = _at(layer, path)
        if isinstance(value, str | int | float):
            facts[name] = value
    for path, name in reader.activations.items():
        known = _activation(_at(layer, path))
        if known is not None:
            facts[name] = known
    return facts


def _activation(module: Any) -> str | None:
    """Upstream's word for an activation; None for one that is not known."""
    kind = type(module)
    gate = getattr(module, "activation_fn", None)
    if kind.__name__ == "GLU" and isinstance(gate, nn.Module):
        name = _activation(gate)
        return None if name is None else f"glu-{name}"
    return _ACTIVATIONS.get(kind, _OWN_ACTIVATIONS.get(kind.__name__))


def _at(module: Any, path: str) -> Any:
    """An attribute of a module's parts, None where there is none."""
    for name in path.split("."):
        if name == "-1":
            module = module[-1] if isinstance(module, nn.Sequential) else None
        else:
            module = getattr(module, name, None)
    return module
