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
        """What the model gives for x with time before features: (batch, ...)."""
        y = self.answer(x)
        return y if self.config.head is None else self.compared(*np.split(y, 2))

    def answer(self, x: Array) -> Array:
        """The same before a head compares the halves of the batch."""
        config = self.config
        with np.errstate(divide="ignore", invalid="ignore"):
            features = self._features(x)
            if not config.held or (config.pooling != "none" and config.answers == 0):
                return self._decoded(self._answered(features))
            y = self._held(self._decoded(self._running(features)), np.shape(x)[1])
            if config.pooling == "none" or config.answers is None:
                return y
            count = config.answers
            return y[:, :count] if config.pooling == "first" else y[:, -count:]

    def running(self, x: Array) -> Array:
        """(batch, length, d_output): pooled, what the answer is after each sample."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._held(self._decoded(self._running(self._features(x))), np.shape(x)[1])

    def _running(self, features: Array) -> Array:
        if self.config.pooling in ("first", "last") and self.config.answers not in (0, 1):
            return features
        return self._so_far(features)

    def _held(self, y: Array, samples: int) -> Array:
        """The latest answer after each sample, 0 before there is one: all samples up to each."""
        counts = [self._whole(end) for end in range(1, samples + 1)]
        zero = np.zeros_like(y[:, 0])
        return np.stack([y[:, count - 1] if count else zero for count in counts], axis=1)

    def _whole(self, samples: int) -> int:
        """Samples that leave the last block of so many."""
        count = samples // self.config.input_stride
        for block in self.config.blocks:
            windows = range(0, count, block.stride)
            count = sum(block.downsampling == "sample" or s + block.stride <= count
                        for s in windows)  # fmt: skip
        return count

    def compared(self, u: Array, v: Array) -> Array:
        """What the head makes of answers."""
        head = self.config.head
        y = np.concatenate([u, v, u - v, u * v] if head.contrasts else [u, v], axis=-1)
        for index in range(len(head.widths)):
            y = self._activated(head.activation, self._linear(f"head.layers.{index}.", y))
        return self._linear(f"head.layers.{len(head.widths)}.", y)

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
        if prefix + "left.weight" in self.tensors:
            x = self._jitter(x @ self.tensors[prefix + "right.weight"].T)
            prefix += "left."
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
        starts = range(0, h.shape[1] - config.input_stride + 1, config.input_stride)
        windows = [slice(start, start + config.input_stride) for start in starts]
        if config.encoder == "linear":
            joined = [np.swapaxes(h[:, each], 1, 2).reshape(len(h), -1) for each in windows]
            h = self._linear("encoder.", np.stack(joined, axis=1))
        else:
            if config.encoder == "embedding":
                h = self.tensors["encoder.weight"][np.asarray(x)]
            h = np.stack([h[:, each].mean(axis=1) for each in windows], axis=1)
        h = self._jitter(h)
        length = None if config.length is None else h.shape[1]
        for index, block in enumerate(config.blocks):
            h = self._block(f"blocks.{index}.", block, h, length)
            if length is not None:
                length = h.shape[1]
        return self._norm("norm.", config.final_norm, config.norm_epsilon, h)

    def _so_far(self, features: Array) -> Array:
        """(batch, length, features): pooled over the samples up to each."""
        ends = range(1, features.shape[1] + 1)
        pooled = {
            "none": lambda end: features[:, end - 1],
            "mean": lambda end: features[:, :end].mean(axis=1),
            "sum": lambda end: features[:, :end].sum(axis=1),
            "last": lambda end: features[:, end - 1],
            "first": lambda end: features[:, 0],
        }[self.config.pooling]
        return np.stack([pooled(end) for end in ends], axis=1)

    def _answered(self, features: Array) -> Array:
        kind, answers = self.config.pooling, self.config.answers
        if kind == "none":
            return features
        if answers == 0:
            return self._so_far(features)[:, -1]
        if kind == "first":
            return features[:, :answers]
        if kind == "last":
            return features if answers is None else features[:, -answers:]
        features = self._so_far(features)
        return features if answers is None else features[:, -answers:]

    def _decoded(self, features: Array) -> Array:
        return self._linear("decoder.", features) if self.config.decoder == "linear" else features

    def _norm(self, prefix: str, kind: str, epsilon: float, x: Array) -> Array:
        """Of (batch, length, features)."""
        if kind == "none":
            return x
        if kind == "standardize":
            scale, shift = self.tensors[prefix + "scale"], self.tensors[prefix + "shift"]
            centred = x - x.mean(axis=2, keepdims=True)
            return self._jitter(scale * (centred + shift) / x.std(axis=2, keepdims=True))
        weight, bias = self.tensors[prefix + "weight"], self.tensors[prefix + "bias"]
        if kind == "affine":
            return self._jitter(x * weight + bias)
        axes = {"layer": (2,), "instance": (1,), "group": (1, 2), "batch": (0, 1)}[kind]
        variance = x.var(axis=axes, keepdims=True)
        normal = (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(variance + epsilon)
        return self._jitter(normal * weight + bias)

    def _block(self, prefix: str, block: Any, x: Array, length: int | None) -> Array:
        pre = block.norm_placement == "pre"
        u = self._norm(prefix + "norm.", block.norm, block.norm_epsilon, x) if pre else x
        y = self._jitter(self._systems(prefix + "systems.", block.systems, u, length))
        if block.backward is not None:
            # The first sample to come is one step away.
            reverse = np.concatenate([np.zeros_like(u[:, :1]), u[:, :0:-1]], axis=1)
            y = (
                y
                + self._systems(prefix + "backward_systems.", block.backward, reverse, length)[
                    :, ::-1
                ]
            )
        if block.hyper is not None:
            half = y.shape[2] // 2
            y = ELEMENTWISE[block.hyper](y[..., half:]) * y[..., :half]
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
            y = self._jitter(self._residual(prefix, block, x, y))
        if not pre:
            y = self._norm(prefix + "norm.", block.norm, block.norm_epsilon, y)
        y = _downsampled(block.downsampling, block.stride, y)
        y = np.stack([y[..., i // block.repeat] for i in range(y.shape[2] * block.repeat)], axis=2)
        return y if block.widening is None else self._linear(prefix + "widening.", y)

    def _residual(self, prefix: str, block: Any, x: Array, y: Array) -> Array:
        of_x, of_y = block.residual_weights
        if block.residual_form == "highway":
            y = self._linear(prefix + "highway.output.", y)
            gate = _sigmoid(self._linear(prefix + "highway.input.", x) + y)
            return of_x * (1 - gate) * x + gate * y
        if block.residual_form == "scaled":
            y = self.tensors[prefix + "residual_scale"] * y
        return of_x * x + of_y * y

    def _systems(self, prefix: str, config: Any, u: Array, length: int | None) -> Array:
        """(batch, samples, features) to (batch, samples, channels)."""
        v = u[..., list(config.inputs)] if config.inputs else u
        if config.TAG == "feedforward":
            return v
        y = v * self.tensors[prefix + "D"] if config.feedthrough else np.zeros_like(v)
        pole, weight, owner = self._stable(prefix, config)
        if config.kernel_length is None:
            state = np.zeros((len(v), len(pole)), dtype=complex)
            for t in range(v.shape[1]):
                state = pole * state + v[:, t, owner]
                np.add.at(y[:, t], (slice(None), owner), (weight * state).real)
        else:
            y = y + _summed(pole, weight, owner, v, config.kernel_length)
        if sum(config.growing):
            y = y + self._grown(prefix, config, v, length or config.kernel_length)
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

    def _grown(self, prefix: str, config: Any, v: Array, length: int) -> Array:
        """Weights are those at the last of the kernel's samples."""
        t = self.tensors
        log_pole = t[prefix + "growing_log_rate"] + 1j * t[prefix + "growing_angle"]
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
    for k in range(min(taps, v.shape[1])):
        tap = np.zeros(v.shape[2])
        np.add.at(tap, owner, (weight * power).real)
        y[:, k:] += tap * v[:, : v.shape[1] - k]
        power = power * pole
    return y


def _downsampled(kind: str, stride: int, y: Array) -> Array:
    """One of so many samples of (batch, length, features)."""
    if stride == 1:
        return y
    if kind == "sample":
        return y[:, ::stride]
    parts = [y[:, i : i + stride] for i in range(0, y.shape[1] - stride + 1, stride)]
    if kind == "mean":
        return np.stack([part.mean(axis=1) for part in parts], axis=1)
    # Feature by feature, all samples of one side by side.
    return np.stack([part.transpose(0, 2, 1).reshape(len(y), -1) for part in parts], axis=1)
