"""Layers' systems in upstream's own parameters: the inverse of the readers.

Only poles are turned back into parameters here. What turns ``C`` into the weights of the discrete
modes is asked of the reader: it reads the layer with the new poles and ones for ``C``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from s4edge.arrays import Complex, Float
from s4edge.checkpoints.tensors import StateDict
from s4edge.checkpoints.transforms import transform
from s4edge.errors import S4EdgeError

# What an exponential stands at for a value of 0.
_ALMOST_ZERO = 1e-12
_FLOOR = 1e-4


@dataclass(frozen=True)
class Layout:
    """One layer as its upstream class lays it out.

    Attributes:
        pole: (systems, modes) in continuous time; feature h has those of system h % systems.
        steps: (features, 2) step sizes of the poles' real and imaginary parts.
        weights: name of the tensor that the weights are proportional to, of shape (features,
            modes, 2) or (rows, features, modes, 2).
        bilinear: whether discrete poles come by the bilinear map.
        modes_per_size: modes that one unit of ``d_state`` stands for.
        interleaved: whether a feature's rows stand together in the layer read.
        write: takes poles (systems, other modes) of the sign that ``upper`` says to the tensors
            to replace but the weights.
        upper: whether imaginary parts must not be negative (True), not be positive (False), or
            may be either (None); a mode and its conjugate are the same.
    """

    pole: Complex
    steps: Float
    weights: str
    bilinear: bool
    modes_per_size: float
    interleaved: bool
    write: Callable[[Complex], dict[str, Float]]
    upper: bool | None

    def slots(self, state: int) -> int:
        """Modes of a ``d_state``.

        Raises:
            S4EdgeError: it is odd where it must be even.
        """
        slots = state * self.modes_per_size
        if slots != int(slots):
            raise S4EdgeError(
                f"upstream's layer stores d_state / 2 conjugate pairs: {state} is odd; "
                "choose an even state size"
            )
        return int(slots)


def _numbers(tensors: StateDict, name: str) -> Float:
    return tensors[name].detach().double().numpy()


def _invert(value: Float, name: str, what: str) -> Float:
    """The free parameters that a transform maps to ``value``.

    Raises:
        S4EdgeError: it maps none to it.
    """
    if name == "none":
        return value
    low, high = {"relu": (_FLOOR, np.inf), "sigmoid": (0.0, 1.0)}.get(name, (0.0, np.inf))
    # What rounding took below a floor is meant to be at it.
    bad = (value < low * (1 - 1e-3)) | (value >= high)
    if bad.any():
        raise S4EdgeError(
            f"the layer's {what}={name} holds values from {low:g}"
            + (f" to {high:g}" if np.isfinite(high) else " up")
            + f", the reduced systems need {value[bad][0]:.6g}; retrain with another, or write "
            "s4edge's own format"
        )
    if name == "relu":
        return np.maximum(value - _FLOOR, 0)
    value = np.maximum(value, _ALMOST_ZERO)
    if name == "exp":
        return np.log(value)
    if name == "sigmoid":
        return np.log(value) - np.log1p(-value)
    # softplus
    out: Float = value + np.log(-np.expm1(-value))
    return out


def s4d(tensors: StateDict, known: dict[str, Any]) -> Layout:
    """The minimal S4D layer: ``A = -exp(log_A_real) + i A_imag``."""
    A = -np.exp(_numbers(tensors, "kernel.log_A_real")) + 1j * _numbers(tensors, "kernel.A_imag")
    step = np.exp(_numbers(tensors, "kernel.log_dt"))

    def write(pole: Complex) -> dict[str, Float]:
        real = _invert(-pole.real, "exp", "log_A_real")
        return {"kernel.log_A_real": real, "kernel.A_imag": pole.imag}

    steps = np.stack([step, step], axis=1)
    return Layout(A, steps, "kernel.C", False, 0.5, False, write, upper=True)


def s4block(tensors: StateDict, known: dict[str, Any]) -> Layout:
    """S4Block of mode diag: ``A = -f(A_real) - i g(A_imag)``, step sizes ``h(inv_dt)``.

    Raises:
        S4EdgeError: the layout cannot hold other poles than it has.
    """
    if "layer.kernel.P" in tensors:
        raise S4EdgeError(
            "a DPLR layer (mode nplr) is a diagonal matrix with a low-rank part P and has C "
            "transformed for one length: it cannot hold the diagonal systems that reduction "
            "gives; write s4edge's own format"
        )
    if "layer.kernel.A_imag" not in tensors:
        raise S4EdgeError(
            "the layer's matrices are real or dense (is_real, mode dense): it cannot hold the "
            "complex poles that reduction gives; write s4edge's own format"
        )
    kernel = {name.removeprefix("layer.kernel."): value for name, value in tensors.items()}
    f, g = known.get("real_transform", "exp"), known.get("imag_transform", "none")
    A = -transform(_numbers(kernel, "A_real"), f) - 1j * transform(_numbers(kernel, "A_imag"), g)
    inv_dt = _numbers(kernel, "inv_dt")

    def step_sizes(parameters: Float) -> Float:
        plain = np.sinh(parameters) if known.get("dt_fast") else parameters
        return transform(plain, known.get("dt_transform", "exp"))

    untied = inv_dt.shape[1] != 1
    if untied and len(A) != len(inv_dt):
        raise S4EdgeError(
            "the layer shares poles between channels (n_ssm) but has a step size for each mode "
            "(dt_tie=False); write s4edge's own format"
        )
    # Of a channel with many step sizes, one in their midst serves for all: what counts is dt A.
    middle = np.median(inv_dt, axis=1, keepdims=True)
    steps = step_sizes(middle) * np.ones(2)
    if untied:
        A = A * step_sizes(inv_dt) / steps[:, :1]

    def write(pole: Complex) -> dict[str, Float]:
        new = {
            "layer.kernel.A_real": _invert(-pole.real, f, "real_transform"),
            "layer.kernel.A_imag": _invert(-pole.imag, g, "imag_transform"),
            "layer.kernel.B": np.stack([np.ones(pole.shape), np.zeros(pole.shape)], axis=-1)[None],
        }
        if untied:
            new["layer.kernel.inv_dt"] = np.repeat(middle, pole.shape[1], axis=1)
        return new

    bilinear = known.get("disc", "zoh") == "bilinear"
    swapped = bool(known.get("swap_channels"))
    return Layout(A, steps, "layer.kernel.C", bilinear, 0.5, swapped, write, upper=False)


def dss(tensors: StateDict, known: dict[str, Any]) -> Layout:
    """The DSS layer: one ``Lambda`` for all channels."""
    if "kernel.Lambda" in tensors:
        parts = _numbers(tensors, "kernel.Lambda")
        pole = parts[:, 0] + 1j * parts[:, 1]
        if known.get("version") != "softmax":
            most = float(known.get("max_real_Lambda", _FLOOR))
            pole = np.minimum(pole.real, most) + 1j * pole.imag
    else:
        pole = -np.exp(_numbers(tensors, "kernel.Lambda_log_neg_re")) + 0j
        if "kernel.Lambda_log_im" in tensors:
            pole = pole + 1j * np.exp(_numbers(tensors, "kernel.Lambda_log_im"))
        else:
            pole = pole + 1j * _numbers(tensors, "kernel.Lambda_im")
    step = np.exp(_numbers(tensors, "kernel.log_dt"))
    steps = step if step.ndim == 2 else np.stack([step, step], axis=1)

    def write(pole: Complex) -> dict[str, Float]:
        if "kernel.Lambda" in tensors:
            return {"kernel.Lambda": np.stack([pole[0].real, pole[0].imag], axis=-1)}
        new = {"kernel.Lambda_log_neg_re": _invert(-pole[0].real, "exp", "Lambda_log_neg_re")}
        if "kernel.Lambda_log_im" in tensors:
            return new | {"kernel.Lambda_log_im": _invert(pole[0].imag, "exp", "Lambda_log_im")}
        return new | {"kernel.Lambda_im": pole[0].imag}

    upper = True if "kernel.Lambda_log_im" in tensors else None
    return Layout(pole[None], steps, "kernel.W", False, 1.0, False, write, upper)


LAYOUTS: dict[str, Callable[[StateDict, dict[str, Any]], Layout]] = {
    "minimal S4D": s4d,
    "S4Block": s4block,
    "DSS": dss,
}
"""By the name of the reader."""
