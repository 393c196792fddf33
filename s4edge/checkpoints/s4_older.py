"""What surrounds the kernel in the S4 layers of versions 2 and 3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from s4edge.arrays import Float
from s4edge.checkpoints import linear
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.output_layer import read_output
from s4edge.checkpoints.stored_kernels import (
    Kernels,
    as_layer,
    infer_rows,
    kernel_length,
    refuse_bottleneck,
)
from s4edge.checkpoints.tensors import Tensors
from s4edge.checkpoints.upstream_layer import ACTIVATION_NAMES, GateWeights, UpstreamLayer
from s4edge.errors import S4EdgeError
from s4edge.model.configuration import Activation

_TRAINING_ONLY = (
    "lr", "dropout", "tie_dropout", "dt_min", "dt_max", "measure", "measure_args", "rank",
    "deterministic", "verbose", "initializer", "transposed", "n_ssm", "keops", "trainable",
    "tie_state", "length_correction", "precision", "real_tolerance",
)  # fmt: skip
KERNEL = "kernel.kernel."
_ACTIVATIONS = tuple(ACTIVATION_NAMES)


def read_layer(
    tensors: Tensors,
    facts: Facts,
    d_model: int,
    read_kernel: Callable[[Tensors, Facts, int, int], Kernels],
    cuts: bool,
) -> UpstreamLayer:
    """The layer around a kernel.

    Args:
        tensors: of the layer.
        facts: about it.
        d_model: features.
        read_kernel: reads the kernel's tensors.
        cuts: whether ``l_max`` cuts the kernel.

    Raises:
        S4EdgeError: a tensor or a fact is missing, or cannot be read.
    """
    facts.ignore(*_TRAINING_ONLY)
    refuse_bottleneck(tensors, facts)
    rows, kernel_rows = infer_rows(tensors, facts, KERNEL + "C")
    pointwise = _find_pointwise(tensors)
    if pointwise.output is None:
        facts.infer("linear", True)
    elif facts.says("linear"):
        facts.infer("linear", False)
    channels = _channels(tensors, facts, pointwise, rows, d_model)
    hyper = None
    if rows == 2 * channels:
        hyper = ACTIVATION_NAMES[
            facts.get(
                "hyper_act",
                allowed=_ACTIVATIONS[1:],
                why="it multiplies its systems by others, whose activation is unknown",
            )
        ]
    elif rows == channels:
        facts.infer("hyper_act", None)
    else:
        raise S4EdgeError(
            f"{tensors.path}: {tensors.prefix}D has {rows} rows for {channels} channels, expected "
            "as many, or twice as many for hyper_act; the file is damaged"
        )
    facts.infer("channels", channels)
    cut = kernel_length(facts) if cuts else None
    if not cuts:
        facts.ignore("l_max")
    kernels = read_kernel(tensors, facts, d_model, kernel_rows)
    D = tensors.take("D", rows, d_model)
    gate, activation, mixing = _pointwise(tensors, facts, pointwise, channels, d_model)
    layer = as_layer(kernels, D, activation, mixing, cut)
    return replace(layer, hyper=hyper, gate=gate)


@dataclass(frozen=True)
class _Pointwise:
    """Prefixes of the linear layers that there are: ``output_linear``, ``input_gate``."""

    output: str | None
    branch: str | None


def _find_pointwise(tensors: Tensors) -> _Pointwise:
    return _Pointwise(
        linear.find(tensors, "output_linear.", "output_linear.0."),
        linear.find(tensors, "input_gate.", "input_gate.0."),
    )


def _channels(
    tensors: Tensors, facts: Facts, pointwise: _Pointwise, rows: int, d_model: int
) -> int:
    """Systems of each feature, not counting those that ``hyper_act`` multiplies by."""
    if pointwise.output is not None:
        return linear.size(tensors, pointwise.output)[1] // d_model
    if pointwise.branch is not None:
        # Multiplied with the systems as they are.
        return linear.size(tensors, pointwise.branch)[0] // d_model
    if rows % 2:
        return rows
    if facts.says("channels"):
        said = facts.get("channels")
        return rows // 2 if said == rows // 2 else rows
    hyper = facts.get(
        "hyper_act",
        allowed=_ACTIVATIONS,
        why=f"without an output_linear it may be of {rows} channels (null), or of {rows // 2} "
        "multiplied by others",
    )
    return rows if hyper is None else rows // 2


def _pointwise(
    tensors: Tensors, facts: Facts, pointwise: _Pointwise, channels: int, d_model: int
) -> tuple[GateWeights | None, Activation, tuple[Float | None, Float | None, str]]:
    """Gate, activation of the systems, mixing and final activation.

    With a gate, ``output_linear`` and its activation are the branch through the systems, and
    ``output_gate`` mixes the product. Without ``output_linear`` (``linear``) the systems are not
    activated, but the gate's input is.
    """
    plain, branch = pointwise.output is None, pointwise.branch
    if plain and branch is None:
        # Upstream takes them and does nothing with them.
        facts.ignore("activation", "postact", "weight_norm", "gate")
        return None, "identity", (None, None, "identity")
    said = ACTIVATION_NAMES[facts.get("activation", "gelu", allowed=_ACTIVATIONS)]
    activation: Activation = "identity" if plain else said
    columns = channels * d_model
    if branch is None:
        facts.infer("gate", None)
        return None, activation, read_output(tensors, facts, "postact", columns, d_model)
    width, _ = linear.size(tensors, branch)
    facts.infer("gate", width // d_model)
    weight: Float | None = np.eye(width)
    bias: Float | None = np.zeros(width)
    final = "identity"
    if plain:
        facts.ignore("postact", "weight_norm")
    else:
        weight, bias, final = read_output(tensors, facts, "postact", columns, width)
    assert weight is not None
    assert bias is not None
    input_weight, input_bias = linear.take(tensors, branch, width, d_model)
    gate = GateWeights(
        input_weight=input_weight,
        input_bias=input_bias,
        activation=said,
        output_weight=weight,
        output_bias=bias,
        output_activation=final,
    )
    prefix = "output_gate."
    return gate, activation, (*linear.take(tensors, prefix, d_model, width), "identity")


def infer_axes(tensors: Tensors, facts: Facts, plain: bool) -> None:
    """Note ``transposed`` where a linear layer's shape tells it.

    Args:
        tensors: of the layer.
        facts: about it.
        plain: whether one without further axes is of a layer with time before features.
    """
    prefix = _find_pointwise(tensors).output
    if prefix is None:
        return
    if linear.axes(tensors, prefix) > 0:
        facts.infer("transposed", True)
    elif plain:
        facts.infer("transposed", False)


def step_sizes(tensors: Tensors, d_model: int) -> Float:
    """(d_model, 1)."""
    return np.exp(tensors.take(KERNEL + "log_dt", d_model))[:, None]
