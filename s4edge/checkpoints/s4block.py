"""The full S4 layer with a diagonal state matrix (``S4Block``, ``mode='diag'``, version 4)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.layer import ACTIVATION_NAMES, Layer, LayerReader
from s4edge.checkpoints.tensors import Tensors
from s4edge.errors import S4EdgeError
from s4edge.model.configuration import FinalActivation
from s4edge.model.modes import Modes, expm1

_TRANSFORMS = ("exp", "none", "relu", "sigmoid", "softplus")
# Options that shape the initialization or the training, not what the trained layer computes.
_TRAINING_ONLY = (
    "lr", "wd", "dropout", "tie_dropout", "drop_kernel", "dt_min", "dt_max", "dt_tie", "init",
    "measure", "rank", "deterministic", "backend", "verbose", "initializer", "transposed", "n_ssm",
    "real_random", "real_scale", "imag_random", "imag_scale", "B_random", "B_init", "B_scale",
    "P_scale", "normalize", "weight_norm",
)  # fmt: skip


def _claims(tensors: Tensors) -> bool:
    return "layer.kernel.inv_dt" in tensors


def _transform(value: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """Upstream's maps from free parameters to positive numbers."""
    if name == "exp":
        return np.exp(value)
    if name == "relu":
        return np.maximum(value, 0) + 1e-4
    if name == "sigmoid":
        return 1 / (1 + np.exp(-value))
    if name == "softplus":
        return np.logaddexp(value, 0)
    return value


def _read(tensors: Tensors, facts: Facts, d_model: int) -> Layer:
    """``A = -f(A_real) - i g(A_imag)``, discretized by zero-order hold or bilinearly."""
    _refuse_other_modes(tensors, facts)
    facts.ignore(*_TRAINING_ONLY)
    systems, half = tensors.shape("layer.kernel.A_real", "systems", "d_state / 2")
    facts.infer("d_state", 2 * half)
    if d_model % systems:
        raise S4EdgeError(
            f"{tensors.path}: {tensors.prefix}layer.kernel.A_real has {systems} systems, which do "
            f"not divide d_model = {d_model}"
        )
    real = _transform(
        tensors.take("layer.kernel.A_real", systems, half),
        facts.get("real_transform", "exp", allowed=_TRANSFORMS),
    )
    imag = _transform(
        tensors.take("layer.kernel.A_imag", systems, half),
        facts.get("imag_transform", "none", allowed=_TRANSFORMS),
    )
    steps = tensors.shape("layer.kernel.inv_dt", "d_model", "step sizes")[1]
    inv_dt = tensors.take("layer.kernel.inv_dt", d_model, half if steps != 1 else 1)
    if facts.get("dt_fast", False, allowed=(False, True)):
        inv_dt = np.sinh(inv_dt)
    step = _transform(inv_dt, facts.get("dt_transform", "exp", allowed=_TRANSFORMS))
    C = tensors.take_complex("layer.kernel.C", 1, d_model, half)[0]
    B = tensors.take_complex("layer.kernel.B", 1, systems, half)[0]

    # The n_ssm trained systems are tiled over the channels.
    A = np.tile(-real - 1j * imag, (d_model // systems, 1))
    B = np.tile(B, (d_model // systems, 1))
    bandlimit = facts.number("bandlimit", None)
    if bandlimit is not None:
        C = C * (step * np.abs(A.imag) / (2 * np.pi) < bandlimit * 0.5)
    z = step * A
    if facts.get("disc", "zoh", allowed=("zoh", "bilinear")) == "zoh":
        log_pole, gain = z, expm1(z) / A
    else:
        # |1 + z/2|^2 - |1 - z/2|^2 = 2 Re z keeps slow poles accurate.
        below = 1 - z / 2
        modulus = 0.5 * np.log1p(2 * z.real / np.abs(below) ** 2)
        log_pole, gain = modulus + 1j * np.angle((1 + z / 2) / below), step / below
    weight, bias, final = _output(tensors, facts, d_model)
    activation = facts.get("activation", "gelu", allowed=tuple(ACTIVATION_NAMES))
    return Layer(
        kind="s4block-diag",
        modes=Modes.from_rows(log_pole, 2 * B * C * gain),
        D=tensors.take("layer.D", 1, d_model)[0],
        state_size=2 * half,
        states_per_size=1,
        activation=ACTIVATION_NAMES[activation],
        mixing_weight=weight,
        mixing_bias=bias,
        final_activation=final,
    )


def _refuse_other_modes(tensors: Tensors, facts: Facts) -> None:
    where = f"{tensors.path}: {tensors.prefix.rstrip('.')}"
    mode = "DPLR (mode 'nplr')" if "layer.kernel.P" in tensors else None
    if "layer.kernel.A_imag" not in tensors:
        mode = "real (is_real)"
    if mode is None and tensors.shape("layer.D", "channels", "d_model")[0] != 1:
        mode = "multi-channel (channels > 1)"
    kernel_axes = ("directions", "d_model", "d_state / 2", "2")
    if mode is None and tensors.shape("layer.kernel.C", *kernel_axes)[0] != 1:
        mode = "bidirectional"
    if mode is not None:
        raise S4EdgeError(
            f"{where} is an S4Block of the {mode} kind, which s4edge cannot read yet; "
            "it reads mode='diag', one channel, one direction"
        )
    facts.infer("mode", "diag")
    facts.infer("channels", 1)
    facts.infer("bidirectional", False)
    for option in ("l_max", "gate", "bottleneck", "mult_act", "swap_channels", "is_real"):
        if facts.get(option, None) not in (None, False):
            raise S4EdgeError(f"{where} has {option}={facts.get(option)}, which cannot be read yet")
        facts.assumed.pop(option, None)


def _output(
    tensors: Tensors, facts: Facts, d_model: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], FinalActivation]:
    rows = tensors.shape("output_linear.0.weight", "rows", "d_model")[0]
    if rows == 2 * d_model:
        facts.infer("final_act", "glu")
        final: FinalActivation = "glu"
    else:
        name = facts.get(
            "final_act",
            allowed=tuple(n for n in ACTIVATION_NAMES if n is not None),
            why="its output_linear is not of a GLU's width and the activation after it is unknown",
        )
        final = ACTIVATION_NAMES[name]
        rows = d_model
    weight = tensors.take("output_linear.0.weight", rows, d_model)
    return weight, tensors.take("output_linear.0.bias", rows), final


READER = LayerReader(
    "S4Block, mode diag",
    (
        "models.s4.s4.S4Block",
        "src.models.s4.s4.S4Block",
    ),
    _claims,
    _read,
)
