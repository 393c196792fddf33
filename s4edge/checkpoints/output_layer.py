"""The linear layer that ends upstream's S4 layers, and the activation after it."""

from __future__ import annotations

from collections.abc import Sequence

from s4edge.arrays import Float
from s4edge.checkpoints import linear
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.tensors import Tensors
from s4edge.checkpoints.upstream_layer import ACTIVATION_NAMES

# Upstream's names for gates to ours.
GLU_NAMES = {
    "glu": "glu",
    **{f"glu-{name}": f"glu-{ours}" for name, ours in ACTIVATION_NAMES.items() if name},
}


def read_output(
    tensors: Tensors,
    facts: Facts,
    key: str,
    columns: int,
    width: int,
    gates: Sequence[str] = ("glu",),
) -> tuple[Float | None, Float | None, str]:
    """Weight, bias and final activation; None where there is no linear layer.

    Args:
        tensors: of the layer.
        facts: about it.
        key: upstream's word for the activation.
        columns: inputs of the linear layer.
        width: features that leave the activation.
        gates: names of activations that halve the features.

    Raises:
        S4EdgeError: a tensor has another shape, or the activation is not known.
    """
    prefix = linear.find(tensors, "output_linear.", "output_linear.0.")
    if prefix is None:
        facts.infer(key, None)
        facts.ignore("weight_norm")
        return None, None, "identity"
    facts.infer("weight_norm", linear.is_normalized(tensors, prefix))
    rows, _ = linear.size(tensors, prefix)
    if prefix == "output_linear.":
        name = facts.infer(key, None)
        rows = width
    elif rows == 2 * width:
        if len(gates) == 1:
            facts.infer(key, gates[0])
        name = facts.get(key, gates[0], allowed=gates)
        if len(gates) == 1:
            facts.assumed.pop(key, None)
    else:
        name = facts.get(
            key,
            allowed=tuple(name for name in ACTIVATION_NAMES if name is not None),
            why="its output_linear is not of a GLU's width and the activation after it is unknown",
        )
        rows = width
    weight, bias = linear.take(tensors, prefix, rows, columns)
    return weight, bias, GLU_NAMES[name] if rows == 2 * width else ACTIVATION_NAMES[name]
