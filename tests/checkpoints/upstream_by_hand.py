"""State dicts in upstream's layouts, and their outputs by the definitions alone.

Written from the layers' published definitions, in float64 and without any code of s4edge: kernels
are built mode by mode, convolutions are sums. Small enough to be slow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Arrays = dict[str, np.ndarray]


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))


def glu(x: np.ndarray) -> np.ndarray:
    a, b = np.split(x, 2, axis=-1)
    return a / (1 + np.exp(-b))


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight + bias


def convolve(kernel: np.ndarray, u: np.ndarray) -> np.ndarray:
    """(H, L) kernels with u (L, H), by the sum itself."""
    length = len(u)
    y = np.zeros_like(u)
    for t in range(length):
        for k in range(t + 1):
            y[t] += kernel[:, k] * u[t - k]
    return y


class Upstream:
    """One layer kind: random tensors under a layer's prefix, and its kernel by definition."""

    def __init__(self, H: int, N: int, seed: int, **options: Any) -> None:
        self.H, self.N, self.options = H, N, options
        self.rng = np.random.default_rng(seed)

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(np.float32).astype(np.float64)

    def log_dt(self, *shape: int) -> np.ndarray:
        return self.rng.uniform(math.log(1e-3), math.log(1e-1), shape).astype(np.float32) * 1.0


class S4D(Upstream):
    classes = "models.s4.s4d.S4D"

    def tensors(self) -> Arrays:
        H, half = self.H, self.N // 2
        return {
            "D": self.normal(H),
            "kernel.C": self.normal(H, half, 2),
            "kernel.log_dt": self.log_dt(H),
            "kernel.log_A_real": np.log(0.5) + 0.3 * self.normal(H, half),
            "kernel.A_imag": np.pi * np.arange(half) + 0.1 * self.normal(H, half),
            "output_linear.0.weight": 0.3 * self.normal(2 * H, H, 1),
            "output_linear.0.bias": 0.1 * self.normal(2 * H),
        }

    def run(self, t: Arrays, u: np.ndarray) -> np.ndarray:
        A = -np.exp(t["kernel.log_A_real"]) + 1j * t["kernel.A_imag"]
        C = t["kernel.C"][..., 0] + 1j * t["kernel.C"][..., 1]
        dt = np.exp(t["kernel.log_dt"])[:, None]
        k = np.arange(len(u))
        scaled = C * (np.exp(dt * A) - 1) / A
        kernel = 2 * (scaled[..., None] * np.exp((dt * A)[..., None] * k)).sum(1).real
        y = gelu(convolve(kernel, u) + u * t["D"])
        return glu(y @ t["output_linear.0.weight"][..., 0].T + t["output_linear.0.bias"])


TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exp": np.exp,
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0) + 1e-4,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.log(1 + np.exp(x)),
}


class S4Block(Upstream):
    classes = "models.s4.s4.S4Block"

    def tensors(self) -> Arrays:
        H, half = self.H, self.N // 2
        S = self.options.get("n_ssm", H)
        tied = self.options.get("dt_tie", True)
        rows = 2 * H if self.options.get("final_act", "glu") == "glu" else H
        dt = self.log_dt(H, 1 if tied else half)
        if self.options.get("dt_transform", "exp") != "exp":
            dt = np.exp(dt)
        return {
            "layer.D": self.normal(1, H),
            "layer.kernel.inv_dt": dt,
            "layer.kernel.C": self.normal(1, H, half, 2),
            "layer.kernel.B": self.normal(1, S, half, 2),
            "layer.kernel.A_real": 0.3 * np.abs(self.normal(S, half)) + 0.1,
            "layer.kernel.A_imag": np.pi * np.arange(half) + 0.1 * np.abs(self.normal(S, half)),
            "output_linear.0.weight": 0.3 * self.normal(rows, H),
            "output_linear.0.bias": 0.1 * self.normal(rows),
        }

    def run(self, t: Arrays, u: np.ndarray) -> np.ndarray:
        o = self.options
        real = TRANSFORMS[o.get("real_transform", "exp")](t["layer.kernel.A_real"])
        imag = TRANSFORMS[o.get("imag_transform", "none")](t["layer.kernel.A_imag"])
        copies = self.H // len(real)
        A = np.concatenate([-real - 1j * imag] * copies)
        B = t["layer.kernel.B"][0, ..., 0] + 1j * t["layer.kernel.B"][0, ..., 1]
        B = np.concatenate([B] * copies)
        C = t["layer.kernel.C"][0, ..., 0] + 1j * t["layer.kernel.C"][0, ..., 1]
        raw = t["layer.kernel.inv_dt"]
        if o.get("dt_fast"):
            raw = np.sinh(raw)
        dt = TRANSFORMS[o.get("dt_transform", "exp")](raw)
        if o.get("bandlimit"):
            C = C * (dt * np.abs(A.imag) / (2 * np.pi) < o["bandlimit"] / 2)
        if o.get("disc", "zoh") == "zoh":
            dA, dB = np.exp(dt * A), B * (np.exp(dt * A) - 1) / A
        else:
            dA, dB = (1 + dt * A / 2) / (1 - dt * A / 2), B * dt / (1 - dt * A / 2)
        # By the recurrence, so that the powers are nobody's closed form.
        x = np.zeros_like(dA)
        y = np.zeros_like(u)
        for step, sample in enumerate(u):
            x = dA * x + dB * sample[:, None]
            y[step] = 2 * (C * x).sum(-1).real + t["layer.D"][0] * sample
        act = {"gelu": gelu, "relu": lambda v: np.maximum(v, 0), "tanh": np.tanh}
        y = act[o.get("activation", "gelu")](y)
        y = y @ t["output_linear.0.weight"].T + t["output_linear.0.bias"]
        final = {"glu": glu, "gelu": gelu, "id": lambda v: v}
        return final[o.get("final_act", "glu")](y)


class DSS(Upstream):
    classes = "dss.DSS"

    def tensors(self) -> Arrays:
        H, N, o = self.H, self.N, self.options
        real = 0.5 * np.exp(0.3 * self.normal(N))
        if o.get("grows"):
            real[: o["grows"]] *= -0.3
        imag = np.pi * np.arange(N) + 0.1 * self.normal(N)
        log_dt = self.log_dt(H, 2) if o.get("sep_dt_re_im", True) else self.log_dt(H)
        tensors = {
            "D": self.normal(1, H),
            "kernel.log_dt": log_dt,
            "kernel.W": self.normal(1, H, N, 2),
        }
        if o["version"] == "exp":
            tensors |= {"kernel.Lambda_log_neg_re": np.log(real), "kernel.Lambda_im": imag}
        else:
            tensors |= {"kernel.Lambda": np.stack([-real, imag], -1)}
        if o.get("postact") is None:
            prefix, rows = "output_linear.", H
        else:
            prefix, rows = "output_linear.0.", 2 * H if o["postact"] == "glu" else H
        tensors[prefix + "weight"] = 0.3 * self.normal(rows, H)
        tensors[prefix + "bias"] = 0.1 * self.normal(rows, 1)
        return tensors

    def run(self, t: Arrays, u: np.ndarray) -> np.ndarray:
        o, length = self.options, len(u)
        if o["version"] == "exp":
            Lambda = -np.exp(t["kernel.Lambda_log_neg_re"]) + 1j * t["kernel.Lambda_im"]
        else:
            Lambda = t["kernel.Lambda"][:, 0] + 1j * t["kernel.Lambda"][:, 1]
        dt = np.exp(t["kernel.log_dt"])
        if dt.ndim == 1:
            dt = np.stack([dt, dt], -1)
        z = dt[:, :1] * Lambda.real + 1j * dt[:, 1:] * Lambda.imag
        W = t["kernel.W"][0, ..., 0] + 1j * t["kernel.W"][0, ..., 1]
        powers = np.exp(z[..., None] * np.arange(length))
        if o["version"] == "exp":
            scale = (np.exp(z) - 1) / Lambda
        else:
            # A softmax over the length: each row sums to 1 / Lambda, but for upstream's rounding
            # of reciprocals, 1/x = conj(x) / (|x|^2 + 1e-7). A growing row is taken backwards.
            grows = Lambda.real > 0
            powers = np.where(grows[:, None], powers / powers[..., -1:], powers)
            inward = np.where(grows, -z, z)
            ratio = np.exp(inward) - 1
            x = Lambda * ratio * np.exp(inward[..., None] * np.arange(length)).sum(-1)
            scale = ratio * x.conj() / (np.abs(x) ** 2 + 1e-7)
        kernel = ((W * scale)[..., None] * powers).sum(1).real
        y = gelu(convolve(kernel, u) + u * t["D"][0])
        prefix = "output_linear." if o.get("postact") is None else "output_linear.0."
        y = y @ t[prefix + "weight"].T + t[prefix + "bias"][:, 0]
        return {None: lambda v: v, "glu": glu, "gelu": gelu}[o.get("postact")](y)


def build(
    layer: Upstream, layers: int = 2, d_input: int = 2, d_output: int = 3
) -> dict[str, torch.Tensor]:
    """A whole state dict in the layout of upstream's example.py."""
    H = layer.H
    arrays = {
        "encoder.weight": layer.normal(H, d_input),
        "encoder.bias": layer.normal(H),
        "decoder.weight": layer.normal(d_output, H),
        "decoder.bias": layer.normal(d_output),
    }
    for i in range(layers):
        arrays |= {f"s4_layers.{i}.{name}": value for name, value in layer.tensors().items()}
        arrays[f"norms.{i}.weight"] = 1 + 0.2 * layer.normal(H)
        arrays[f"norms.{i}.bias"] = 0.2 * layer.normal(H)
    return {name: torch.tensor(value, dtype=torch.float32) for name, value in arrays.items()}


def run(
    layer: Upstream, state_dict: dict[str, torch.Tensor], x: np.ndarray, prenorm: bool = False
) -> np.ndarray:
    """The model's output for one sequence x (L, d_input), in float64."""
    t = {name: value.double().numpy() for name, value in state_dict.items()}
    h = x @ t["encoder.weight"].T + t["encoder.bias"]
    i = 0
    while f"norms.{i}.weight" in t:
        norm = (t[f"norms.{i}.weight"], t[f"norms.{i}.bias"])
        prefix = f"s4_layers.{i}."
        own = {n.removeprefix(prefix): v for n, v in t.items() if n.startswith(prefix)}
        if prenorm:
            h = h + layer.run(own, layer_norm(h, *norm))
        else:
            h = layer_norm(h + layer.run(own, h), *norm)
        i += 1
    return h.mean(0) @ t["decoder.weight"].T + t["decoder.bias"]
