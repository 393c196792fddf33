"""What a model computes, from its configuration and tensors alone: numpy, float64, one by one.

Nothing of s4edge runs here. Systems are recurrences sample by sample, or, where kernels are cut or
grow, sums over the past; everything else is written out from the words of the configuration.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.special

Array = np.ndarray


def _sigmoid(x: Array) -> Array:
    return scipy.special.expit(x)


ELEMENTWISE: dict[str, Any] = {
    "identity": lambda x: x,
    "gelu": lambda x: x * scipy.special.ndtr(x),
    "relu": lambda x: np.maximum(x, 0),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "silu": lambda x: x * _sigmoid(x),
    "sigmoid": _sigmoid,
    "softplus": lambda x: np.logaddexp(0, x),
    "tanh": np.tanh,
    "sqrelu": lambda x: np.maximum(x, 0) ** 2,
    # Mega's, with its rounded numbers.
    "laplace": lambda x: scipy.special.ndtr((x - 0.707107) / 0.282095),
}


class Naive:
    """A model's numbers, to be run naively.

    Args:
        model: a `SequenceModel`; only its ``config`` and ``state_dict()`` are read.
    """

    def __init__(self, model: Any) -> None:
        self.config = model.config
        self.tensors = {
            name: tensor.detach().double().numpy() for name, tensor in model.state_dict().items()
        }
        self._noise: np.random.Generator | None = None

    # What comes out

    def run(self, x: Array) -> Array:
        """(batch, d_output) or (batch, length, d_output), of x with time before features."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.stack([self._decoded(self._pooled(self._features(row))) for row in x])

    def running(self, x: Array) -> Array:
        """(batch, length, d_output): pooled, what the output is after each sample."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._running(x)

    def _running(self, x: Array) -> Array:
        out = []
        for row in x:
            features = self._features(row)
            if self.config.pooling not in ("none", "last"):
                ends = range(1, len(features) + 1)
                features = np.stack([self._pooled(features[:end]) for end in ends])
            out.append(self._decoded(features))
        return np.stack(out)

    def tolerance(self, x: Array, relative: float) -> float:
        """How far outputs may be off where every layer rounds by ``relative``.

        Measured: the largest change by noise of that size behind every operation, thirty times
        over, and ``relative`` of the largest output. Norms of almost constant features and
        the like make a model feel rounding more than its outputs' size tells.
        """
        plain = self.running(x)
        worst = 0.0 if np.isfinite(plain).all() else np.inf
        for seed in range(3):
            self._noise, self._size = np.random.default_rng(seed), relative
            change = np.abs(self.running(x) - plain)
            worst = max(worst, float(np.nan_to_num(change, nan=np.inf).max(initial=0)))
        self._noise = None
        return 30 * worst + 10 * relative * float(np.abs(plain).max(initial=0))

    # On the way

    def _jitter(self, h: Array) -> Array:
        if self._noise is None:
            return h
        size = np.abs(h).max(initial=0) + np.abs(h)
        return h + self._size * size * self._noise.standard_normal(h.shape)

    def _linear(self, prefix: str, x: Array) -> Array:
        y = x @ self.tensors[prefix + "weight"].T + self.tensors[prefix + "bias"]
        return self._jitter(y)

    def _activated(self, name: str, x: Array) -> Array:
        """Over the last axis, which the "glu" family halves."""
        if name.startswith("glu"):
            half = x.shape[-1] // 2
            y = x[..., :half] * ELEMENTWISE[name[4:] or "sigmoid"](x[..., half:])
        else:
            y = ELEMENTWISE[name](x)
        return y if name == "identity" else self._jitter(y)

    def _features(self, x: Array) -> Array:
        config = self.config
        h = np.asarray(x, dtype=np.float64)
        if config.encoder == "linear":
            h = self._linear("encoder.", h)
        elif config.encoder == "embedding":
            h = self.tensors["encoder.weight"][np.asarray(x)]
        h = self._jitter(h)
        for index, block in enumerate(config.blocks):
            h = self._block(f"blocks.{index}.", block, h)
        return self._norm("norm.", config.final_norm, config.norm_epsilon, h)

    def _pooled(self, features: Array) -> Array:
        kind = self.config.pooling
        if kind == "none":
            return features
        return {
            "mean": lambda: features.mean(axis=0),
            "sum": lambda: features.sum(axis=0),
            "last": lambda: features[-1],
            "first": lambda: features[0],
        }[kind]()

    def _decoded(self, features: Array) -> Array:
        return self._linear("decoder.", features) if self.config.decoder == "linear" else features

    def _norm(self, prefix: str, kind: str, epsilon: float, x: Array) -> Array:
        """Of (length, features)."""
        if kind == "none":
            return x
        if kind == "standardize":
            scale, shift = self.tensors[prefix + "scale"], self.tensors[prefix + "shift"]
            centred = x - x.mean(axis=1, keepdims=True)
            return self._jitter(scale * (centred + shift) / x.std(axis=1, keepdims=True))
        weight, bias = self.tensors[prefix + "weight"], self.tensors[prefix + "bias"]
        if kind == "affine":
            return self._jitter(x * weight + bias)
        axes: Any = {"layer": 1, "instance": 0, "group": (0, 1)}[kind]
        variance = x.var(axis=axes, keepdims=True)
        normal = (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(variance + epsilon)
        return self._jitter(normal * weight + bias)

    def _block(self, prefix: str, block: Any, x: Array) -> Array:
        pre = block.norm_placement == "pre"
        u = self._norm(prefix + "norm.", block.norm, block.norm_epsilon, x) if pre else x
        y = self._jitter(self._systems(prefix + "systems.", block.systems, u))
        if block.backward is not None:
            # The first sample to come is one step away.
            reverse = np.concatenate([np.zeros_like(u[:1]), u[:0:-1]])
            answer = self._systems(prefix + "backward_systems.", block.backward, reverse)
            y = y + answer[::-1]
        if block.hyper is not None:
            half = y.shape[1] // 2
            y = ELEMENTWISE[block.hyper](y[:, half:]) * y[:, :half]
        y = self._activated(block.activation, y)
        if block.gate is not None:
            branch = self._activated(block.gate.activation, self._linear(prefix + "gate.input.", u))
            y = self._linear(prefix + "gate.output.", y)
            y = self._activated(block.gate.output_activation, y) * branch
        y = self._activated(block.multiplied_activation, y)
        if block.mixing == "linear":
            y = self._linear(prefix + "mixing.", y)
        y = self._activated(block.final_activation, y)
        if block.projection == "linear":
            y = self._linear(prefix + "projection.", y)
        if block.residual:
            y = block.residual_weights[0] * x + block.residual_weights[1] * y
            y = self._jitter(y)
        if not pre:
            y = self._norm(prefix + "norm.", block.norm, block.norm_epsilon, y)
        whole = len(y) // block.stride
        return np.stack(
            [y[i * block.stride : (i + 1) * block.stride].mean(axis=0) for i in range(whole)]
        )

    def _systems(self, prefix: str, config: Any, u: Array) -> Array:
        """(length, features) to (length, channels)."""
        v = u[:, list(config.inputs)] if config.inputs else u
        y = v * self.tensors[prefix + "D"] if config.feedthrough else np.zeros_like(v)
        pole, weight, owner = self._stable(prefix, config)
        if config.kernel_length is None:
            state = np.zeros(len(pole), dtype=complex)
            for t in range(len(v)):
                state = pole * state + v[t, owner]
                np.add.at(y[t], owner, (weight * state).real)
        else:
            y = y + _summed(pole, weight, owner, v, config.kernel_length)
        if sum(config.growing):
            y = y + self._grown(prefix, config, v)
        return y

    def _stable(self, prefix: str, config: Any) -> tuple[Array, Array, Array]:
        t = self.tensors
        decay = np.exp(-np.exp(t[prefix + "pair_log_decay"]))
        pair = decay * np.exp(1j * t[prefix + "pair_angle"])
        real = t[prefix + "real_sign"] * np.exp(-np.exp(t[prefix + "real_log_decay"]))
        parts = t[prefix + "pair_weight"]
        return (
            np.concatenate([pair, real]),
            np.concatenate([parts[:, 0] + 1j * parts[:, 1], t[prefix + "real_weight"]]),
            np.concatenate([_owner(config.pairs), _owner(config.reals)]),
        )

    def _grown(self, prefix: str, config: Any, v: Array) -> Array:
        """Weights are those at the last of the kernel's samples."""
        t = self.tensors
        log_pole = t[prefix + "growing_log_rate"] + 1j * t[prefix + "growing_angle"]
        length = self.config.length or config.kernel_length
        parts = t[prefix + "growing_weight"]
        weight = (parts[:, 0] + 1j * parts[:, 1]) * np.exp(-log_pole * (length - 1))
        taps = config.kernel_length or length
        return _summed(np.exp(log_pole), weight, _owner(config.growing), v, taps)


def _owner(counts: tuple[int, ...]) -> Array:
    return np.repeat(np.arange(len(counts)), counts)


def _summed(pole: Array, weight: Array, owner: Array, v: Array, taps: int) -> Array:
    """``y_t = sum_(k < taps) K[k] v_(t-k)`` with ``K[k] = Re sum w a^k``."""
    y = np.zeros_like(v)
    power = np.ones_like(pole)
    for k in range(min(taps, len(v))):
        tap = np.zeros(v.shape[1])
        np.add.at(tap, owner, (weight * power).real)
        y[k:] += tap * v[: len(v) - k]
        power = power * pole
    return y
