"""What surrounds the kernel in the S4 layers of versions 2 and 3."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from s4edge.checkpoints import linear
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.kernels import Kernels, as_layer, infer_rows, kernel_length
from s4edge.checkpoints.layer import ACTIVATION_NAMES, Gate, Layer
from s4edge.checkpoints.output import read_output
from s4edge.checkpoints.tensors import Tensors
from s4edge.errors import S4EdgeError

Float = NDArray[np.float64]

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
) -> Layer:
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
    _refuse_unread(tensors, facts)
    rows, kernel_rows = infer_rows(tensors, facts, KERNEL, d_model)
    output = linear.find(tensors, "output_linear.", "output_linear.0.")
    plain = facts.infer("linear", True) if output is None else False
    if output is not None and "linear" in (*facts.saved, *facts.overrides):
        facts.infer("linear", False)
    channels = rows if output is None else linear.size(tensors, output)[1] // d_model
    hyper = None
    if channels and rows == 2 * channels:
        hyper = ACTIVATION_NAMES[
            facts.get(
                "hyper_act",
                allowed=_ACTIVATIONS[1:],
                why="it multiplies its systems by others, whose activation is unknown",
            )
        ]
    else:
        facts.infer("hyper_act", None)
    facts.infer("channels", channels)
    activation = "identity"
    if plain:
        facts.ignore("activation", "postact", "weight_norm")
    else:
        activation = ACTIVATION_NAMES[facts.get("activation", "gelu", allowed=_ACTIVATIONS)]
    cut = kernel_length(facts) if cuts else None
    if not cuts:
        facts.ignore("l_max")
    kernels = read_kernel(tensors, facts, d_model, kernel_rows)
    D = tensors.take("D", rows, d_model)
    gate, mixing = _pointwise(tensors, facts, activation, channels, d_model)
    layer = as_layer(kernels, D, activation, mixing, cut)
    return replace(layer, hyper=hyper, gate=gate)


def _refuse_unread(tensors: Tensors, facts: Facts) -> None:
    where = f"{tensors.path}: {tensors.prefix.rstrip('.')}".rstrip(": ")
    for option in ("bottleneck", "shift", "resample"):
        if facts.get(option, None) not in (None, False):
            raise S4EdgeError(
                f"{where} has {option}={facts.get(option)}, which is no part of the form that "
                "s4edge reads; retrain without it"
            )
        facts.assumed.pop(option, None)
    if linear.find(tensors, "input_linear.", "input_linear.0.") is not None:
        raise S4EdgeError(
            f"{where} has a bottleneck (input_linear), which s4edge does not read; retrain "
            "without it"
        )


def _pointwise(
    tensors: Tensors, facts: Facts, activation: str, channels: int, d_model: int
) -> tuple[Gate | None, tuple[Float | None, Float | None, str]]:
    """Gate, mixing and final activation.

    With a gate, ``output_linear`` and its activation are the branch through the systems, and
    ``output_gate`` mixes the product.
    """
    branch = linear.find(tensors, "input_gate.", "input_gate.0.")
    if branch is None:
        facts.infer("gate", None)
        return None, read_output(tensors, facts, "postact", channels * d_model, d_model)
    width, _ = linear.size(tensors, branch)
    facts.infer("gate", width // d_model)
    weight, bias, final = read_output(tensors, facts, "postact", channels * d_model, width)
    if weight is None or bias is None:
        raise S4EdgeError(
            f"{tensors.path}: {tensors.prefix}input_gate has no output_linear beside it; "
            "the file is damaged"
        )
    input_weight, input_bias = linear.take(tensors, branch, width, d_model)
    gate = Gate(
        input_weight=input_weight,
        input_bias=input_bias,
        activation=ACTIVATION_NAMES[activation],
        output_weight=weight,
        output_bias=bias,
        output_activation=final,
    )
    return gate, (*linear.take(tensors, "output_gate.", d_model, width), "identity")


def step_sizes(tensors: Tensors, d_model: int) -> Float:
    """(d_model, 1)."""
    return np.exp(tensors.take(KERNEL + "log_dt", d_model))[:, None]
