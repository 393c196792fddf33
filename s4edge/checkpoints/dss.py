"""The DSS layer (``dss.py`` of ag1988/dss), versions exp and softmax.

N complex modes per channel whose real part is taken, no conjugate partner: ``d_state`` counts them,
so one unit of it is two real states.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.layer import ACTIVATION_NAMES, Layer, LayerReader
from s4edge.checkpoints.tensors import Tensors
from s4edge.errors import S4EdgeError
from s4edge.model.configuration import FinalActivation
from s4edge.model.modes import Modes, expm1

Complex = NDArray[np.complex128]

_TRAINING_ONLY = (
    "lr", "trainable", "dropout", "dt_min", "dt_max", "l_max", "initializer", "verbose",
    "Lambda_init", "transposed", "max_real_Lambda",
)  # fmt: skip


def _claims(tensors: Tensors) -> bool:
    return "kernel.W" in tensors


def _read(tensors: Tensors, facts: Facts, d_model: int) -> Layer:
    facts.ignore(*_TRAINING_ONLY)
    where = f"{tensors.path}: {tensors.prefix.rstrip('.')}"
    directions, _, count, _ = tensors.shape("kernel.W", "channels", "d_model", "d_state", "2")
    if tensors.shape("D", "channels", "d_model")[0] != 1 or directions != 1:
        raise S4EdgeError(
            f"{where} is a DSS layer with several channels or two directions, which s4edge cannot "
            "read yet; it reads channels=1, bidirectional=False"
        )
    facts.infer("channels", 1)
    facts.infer("bidirectional", False)
    facts.infer("d_state", count)
    for option in ("max_kernel_length", "hyper_act", "weight_norm"):
        if facts.get(option, None) not in (None, False):
            raise S4EdgeError(f"{where} has {option}={facts.get(option)}, which cannot be read yet")
        facts.assumed.pop(option, None)
    Lambda, version = _lambda(tensors, facts, count)
    z = _discrete(tensors, facts, Lambda, d_model)
    W = tensors.take_complex("kernel.W", 1, d_model, count)[0]
    length = None
    if version == "exp":
        weight = W * expm1(z) * _clamped_reciprocal(Lambda)
    else:
        length = facts.get(
            "length",
            why="DSS softmax kernels are normalized over the length of the sequences, "
            "which the file does not hold",
        )
        if not isinstance(length, int) or isinstance(length, bool) or not 1 <= length < 2**31:
            raise S4EdgeError(f"{where}: length must be a whole number of samples, got {length}")
        weight = W * _softmax_gain(z, Lambda, length, facts.number("epsilon", 1e-7))
    linear, bias, final = _output(tensors, facts, d_model)
    activation = facts.get("activation", "gelu", allowed=tuple(ACTIVATION_NAMES))
    return Layer(
        kind=f"dss-{version}",
        modes=Modes.from_rows(z, weight),
        D=tensors.take("D", 1, d_model)[0],
        state_size=count,
        states_per_size=2,
        activation=ACTIVATION_NAMES[activation],
        mixing_weight=linear,
        mixing_bias=bias,
        final_activation=final,
        length=length,
    )


def _lambda(tensors: Tensors, facts: Facts, count: int) -> tuple[Complex, str]:
    """The continuous poles (count,), shared by all channels, and the version they tell."""
    if "kernel.Lambda_log_neg_re" in tensors:
        # exp and exp-no-scale have the same tensors.
        version = facts.get("version", "exp", allowed=("exp",))
        real = -np.exp(tensors.take("kernel.Lambda_log_neg_re", count))
        return real + 1j * tensors.take("kernel.Lambda_im", count), version
    version = facts.get("version", "softmax", allowed=("softmax",))
    return tensors.take_complex("kernel.Lambda", count), version


def _discrete(tensors: Tensors, facts: Facts, Lambda: Complex, d_model: int) -> Complex:
    """``dt Lambda`` (d_model, count); one step size, or one each for real and imaginary part."""
    separate = facts.infer("sep_dt_re_im", len(tensors.shape("kernel.log_dt")) == 2)
    if separate:
        step = np.exp(tensors.take("kernel.log_dt", d_model, 2))
        return step[:, :1] * Lambda.real + 1j * step[:, 1:] * Lambda.imag
    return np.exp(tensors.take("kernel.log_dt", d_model))[:, None] * Lambda


def _clamped_reciprocal(x: Complex) -> Complex:
    return x.conj() / np.maximum(np.abs(x) ** 2, 1e-7)


def _softmax_gain(z: Complex, Lambda: Complex, length: int, epsilon: float) -> Complex:
    """What turns ``W`` into the weight of ``exp(z k)`` for kernels of one length.

    Modes with ``Re Lambda > 0`` are normalized at the kernel's end; ``epsilon`` rounds the
    reciprocal as upstream does.
    """
    grows = Lambda.real > 0
    inward = np.where(grows, -z, z)
    bottom = expm1(inward * length) * Lambda
    gain = expm1(inward) * bottom.conj() / (np.abs(bottom) ** 2 + epsilon)
    return gain * np.where(grows, np.exp(-z * (length - 1)), 1)


def _output(
    tensors: Tensors, facts: Facts, d_model: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], FinalActivation]:
    """A linear layer alone, or a sequence of it and an activation (then under ``.0``)."""
    if "output_linear.weight" in tensors:
        facts.infer("postact", None)
        prefix, final = "output_linear.", "identity"
    else:
        prefix = "output_linear.0."
        if tensors.shape(prefix + "weight", "rows", "d_model")[0] == 2 * d_model:
            final = facts.infer("postact", "glu")
        else:
            final = facts.get(
                "postact",
                allowed=("gelu", "relu", "tanh", "silu", "swish", "sigmoid"),
                why="the activation after output_linear is unknown",
            )
    rows = 2 * d_model if final == "glu" else d_model
    weight = tensors.take(prefix + "weight", rows, d_model)
    name: FinalActivation = "glu" if final == "glu" else ACTIVATION_NAMES[final]
    return weight, tensors.take(prefix + "bias", rows, 1)[:, 0], name


READER = LayerReader("DSS", ("dss.DSS",), _claims, _read)
