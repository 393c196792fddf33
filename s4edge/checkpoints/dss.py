"""The DSS layer (``dss.py`` of ag1988/dss), all versions.

N complex modes per channel whose real part is taken, no conjugate partner: ``d_state`` counts them,
so one unit of it is two real states.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from s4edge.arrays import Complex, Float
from s4edge.checkpoints.discretize import known_length, softmax_gain, whole_number
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.layout import Layout, numbers
from s4edge.checkpoints.tensors import StateDict, Tensors
from s4edge.checkpoints.transforms import FLOOR, invert
from s4edge.checkpoints.upstream_layer import (
    ACTIVATION_NAMES,
    OLDER_ACTIVATIONS,
    LayerReader,
    UpstreamLayer,
)
from s4edge.errors import S4EdgeError
from s4edge.model.configuration import Activation, FinalActivation
from s4edge.systems.modes import Modes, expm1

_CLASSES = ("dss.DSS", "src.models.sequence.ss.standalone.dss.DSS")
_IGNORED = (
    "lr", "wd", "trainable", "dropout", "dt_min", "dt_max", "l_max", "initializer", "verbose",
    "Lambda_init",
    # Options of the same repository's S4 kernel, which DSS's takes and does nothing with.
    "measure", "rank", "deterministic", "mode", "length_correction", "hurwitz", "tie_state",
    "precision", "resample", "keops",
)  # fmt: skip
# What upstream's Activation knows, without "glu", which would act along time inside a layer.
_ACTIVATIONS = ("gelu", "id", "identity", "linear", "relu", "sigmoid", "silu", "swish", "tanh")
# Weights of growing modes are kept at the kernel's start; beyond exp(-this) they are lost.
_LARGEST_GROWTH = 690.0


@dataclass(frozen=True)
class _Shape:
    """How many systems a layer has: ``channels`` heads, twice that for ``hyper``."""

    features: int
    states: int
    channels: int
    hyper: bool
    bidirectional: bool

    @property
    def copies(self) -> int:
        """Systems that read each feature, in one direction."""
        return self.channels * (2 if self.hyper else 1)


@dataclass(frozen=True)
class _Reach:
    """For which lengths the kernels are exact.

    Attributes:
        normalized: the length that a softmax is taken over, or None.
        only: the one sequence length, or None.
        cut: where kernels end, or None.
        notes: what to tell.
    """

    normalized: int | None
    only: int | None
    cut: int | None
    notes: tuple[str, ...]


def _claims(tensors: Tensors) -> bool:
    own = ("kernel.W", "kernel.Lambda", "kernel.Lambda_log_neg_re")
    return any(name in tensors for name in own)


def _read(tensors: Tensors, facts: Facts, d_model: int) -> UpstreamLayer:
    # What overflows is refused when the systems are built.
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return _layer(tensors, facts, d_model)


def _layer(tensors: Tensors, facts: Facts, d_model: int) -> UpstreamLayer:
    facts.ignore(*_IGNORED)
    shape = _shape(tensors, facts, d_model)
    Lambda, version = _lambda(tensors, facts, shape.states)
    z = _discrete(tensors, facts, Lambda, d_model)
    grows = bool((z.real >= 0).any())
    reach = _reach(tensors, facts, shape, version, grows)
    if version == "softmax":
        assert reach.normalized is not None
        gain = _checked_gain(tensors, z, Lambda, reach.normalized, facts.number("epsilon", 1e-7))
    else:
        # Only softmax has an epsilon of its own.
        facts.ignore("epsilon")
        scaled = "no-scale" not in version
        gain = expm1(z) * _clamped_reciprocal(Lambda) if scaled else np.ones_like(z)
    directions = 2 if shape.bidirectional else 1
    W = tensors.take_complex(
        "kernel.W", directions * shape.copies, shape.features, shape.states
    ).reshape(directions, shape.copies, shape.features, shape.states)

    def systems(W: Complex) -> Modes:
        # System c * features + h reads feature h; the poles are the same for every c.
        size = (shape.copies * shape.features, shape.states)
        poles = np.broadcast_to(z, W.shape).reshape(size)
        return Modes.from_rows(poles, (W * gain).reshape(size))

    weight, bias, final = _output(tensors, facts, shape)
    inputs = np.tile(np.arange(d_model), shape.copies) if shape.copies > 1 else None
    return UpstreamLayer(
        kind=f"dss-{version}",
        modes=systems(W[0]),
        D=tensors.take("D", shape.copies, d_model).reshape(-1),
        state_size=shape.states,
        states_per_size=2,
        activation=_activation(facts, "activation", "gelu"),
        mixing_weight=weight,
        mixing_bias=bias,
        final_activation=final,
        length=reach.only,
        inputs=inputs,
        backward=systems(W[1]) if shape.bidirectional else None,
        kernel_length=reach.cut,
        hyper=_hyper(facts) if shape.hyper else None,
        notes=reach.notes,
    )


def _where(tensors: Tensors) -> str:
    return f"{tensors.path}: {tensors.prefix.rstrip('.') or 'the layer'}"


def _shape(tensors: Tensors, facts: Facts, d_model: int) -> _Shape:
    rows, features, states, _ = tensors.shape("kernel.W", "channels", "d_model", "d_state", "2")
    if features != d_model:
        raise S4EdgeError(
            f"{tensors.path}: {tensors.prefix}kernel.W has shape {tensors.shape('kernel.W')}, "
            f"expected ({rows}, {d_model}, {states}, 2)"
        )
    copies = tensors.shape("D", "channels", "d_model")[0]
    columns = tensors.shape(_linear_prefix(tensors) + _weight_name(tensors), "rows", "columns")[1]
    channels = columns // d_model
    if (
        columns != channels * d_model
        or copies not in (channels, 2 * channels)
        or rows not in (copies, 2 * copies)
    ):
        raise S4EdgeError(
            f"{_where(tensors)}: the shapes of D ({copies} rows), kernel.W ({rows} rows) "
            f"and output_linear ({columns} columns) are of no DSS layer with {d_model} features"
        )
    shape = _Shape(d_model, states, channels, copies == 2 * channels, rows == 2 * copies)
    facts.infer("channels", channels)
    facts.infer("bidirectional", shape.bidirectional)
    facts.infer("d_state", states)
    if not shape.hyper:
        facts.infer("hyper_act", None)
    return shape


def _lambda(tensors: Tensors, facts: Facts, count: int) -> tuple[Complex, str]:
    """The continuous poles (count,), shared by all channels, and the version.

    The names of the tensors tell what is stored; what is done with it must be said.
    """
    if "kernel.Lambda_log_neg_re" in tensors:
        real = -np.exp(tensors.take("kernel.Lambda_log_neg_re", count))
        if "kernel.Lambda_log_im" in tensors:
            version = facts.infer("version", "exp-re-im")
            imag = np.exp(tensors.take("kernel.Lambda_log_im", count))
        else:
            version = facts.get("version", "exp", allowed=("exp", "exp-no-scale"))
            imag = tensors.take("kernel.Lambda_im", count)
        facts.ignore("max_real_Lambda")
        return real + 1j * imag, version
    version = facts.get("version", "softmax", allowed=("softmax", "clip", "clip-no-scale"))
    Lambda = tensors.take_complex("kernel.Lambda", count)
    if version == "softmax":
        facts.ignore("max_real_Lambda")
        return Lambda, version
    most = facts.get("max_real_Lambda", 1e-4)
    if isinstance(most, bool) or not isinstance(most, int | float) or not -inf < most < inf:
        raise S4EdgeError(f"{tensors.path}: max_real_Lambda is a number, got {most!r}")
    return np.minimum(Lambda.real, most) + 1j * Lambda.imag, version


def _discrete(tensors: Tensors, facts: Facts, Lambda: Complex, d_model: int) -> Complex:
    """``dt Lambda`` (d_model, count); one step size, or one each for real and imaginary part."""
    separate = facts.infer("sep_dt_re_im", len(tensors.shape("kernel.log_dt")) == 2)
    if separate:
        step = np.exp(tensors.take("kernel.log_dt", d_model, 2))
        return step[:, :1] * Lambda.real + 1j * step[:, 1:] * Lambda.imag
    return np.exp(tensors.take("kernel.log_dt", d_model))[:, None] * Lambda


def _reach(tensors: Tensors, facts: Facts, shape: _Shape, version: str, grows: bool) -> _Reach:
    """Which length matters, and asks for it only then."""
    # Upstream takes 0 for none.
    most = facts.get("max_kernel_length", None) or None
    cut = None if most is None else whole_number(facts, "max_kernel_length", most)
    if cut is not None and shape.bidirectional:
        return _both_ways(tensors, facts, version, cut)
    if cut is None:
        if version == "softmax":
            why = "DSS softmax kernels are normalized over the length of the sequences"
        elif grows:
            why = "its kernels hold modes with |a| >= 1, which mean something up to a length only"
        else:
            return _Reach(None, None, None, ())
        length = known_length(facts, why)
        return _Reach(length, length, None, ())
    if version != "softmax":
        # A shorter sequence uses the beginning of the same kernel.
        return _Reach(None, None, cut, ())
    if facts.says("length"):
        length = known_length(facts, "")
        if length < cut:
            return _Reach(length, length, None, ())
    else:
        # Told among what is assumed.
        facts.get("length", cut)
    note = (
        f"the softmax kernels are normalized over max_kernel_length={cut} samples; for shorter "
        "sequences upstream normalizes over their own length: set length to read it for such"
    )
    return _Reach(cut, None, cut, (note,))


def _both_ways(tensors: Tensors, facts: Facts, version: str, cut: int) -> _Reach:
    """Kernels cut and in both directions: as good as uncut for sequences that are no longer."""
    why = (
        f"it is bidirectional with max_kernel_length={cut}, which upstream computes rightly only "
        "for sequences of a length that is no longer"
    )
    length = known_length(facts, why)
    if length > cut:
        raise S4EdgeError(
            f"{_where(tensors)} is bidirectional with max_kernel_length={cut}: for sequences of "
            f"{length} samples upstream's convolution wraps around, so that the backward kernel "
            "reaches the past and the sequence's other end; no such system can be represented "
            f"(up to {cut} samples it can: --set length=...)"
        )
    note = (
        f"bidirectional with max_kernel_length={cut}: exact for length {length}; upstream wraps "
        f"around for sequences longer than {cut}"
    )
    return _Reach(length if version == "softmax" else None, length, None, (note,))


def _clamped_reciprocal(x: Complex) -> Complex:
    return x.conj() / np.maximum(np.abs(x) ** 2, 1e-7)


def _checked_gain(
    tensors: Tensors, z: Complex, Lambda: Complex, length: int, epsilon: float
) -> Complex:
    """`softmax_gain`, refused where a mode grows out of range."""
    grows = Lambda.real > 0
    growth = float(np.where(grows, z.real, 0).max()) * (length - 1)
    if growth > _LARGEST_GROWTH:
        raise S4EdgeError(
            f"{_where(tensors)} has a mode that grows by exp({growth:.0f}) over {length} samples, "
            "more than floating point numbers hold"
        )
    return softmax_gain(z, Lambda, length, epsilon)


def _activation(facts: Facts, key: str, default: str) -> Activation:
    return ACTIVATION_NAMES[facts.get(key, default, allowed=(None, *_ACTIVATIONS))]


def _hyper(facts: Facts) -> Activation:
    why = "the activation of the multiplicative branch is not in the file"
    return ACTIVATION_NAMES[facts.get("hyper_act", allowed=_ACTIVATIONS, why=why)]


def _linear_prefix(tensors: Tensors) -> str:
    """A linear layer alone, or a sequence of it and an activation (then under ``.0``)."""
    followed = any(name.startswith("output_linear.0.") for name in tensors.names())
    return "output_linear.0." if followed else "output_linear."


def _weight_name(tensors: Tensors) -> str:
    """Of the linear layer; with weight_norm its direction, in torch's old or new form."""
    linear = tensors.under(_linear_prefix(tensors))
    for name in ("weight_v", "parametrizations.weight.original1"):
        if name in linear:
            return name
    return "weight"


def _output(tensors: Tensors, facts: Facts, shape: _Shape) -> tuple[Float, Float, FinalActivation]:
    prefix = _linear_prefix(tensors)
    linear = tensors.under(prefix)
    columns = shape.channels * shape.features
    if prefix == "output_linear.":
        final = facts.infer("postact", None)
    elif linear.shape(_weight_name(tensors))[0] == 2 * shape.features:
        final = facts.infer("postact", "glu")
    else:
        why = "the activation after output_linear is not in the file"
        final = facts.get("postact", allowed=_ACTIVATIONS, why=why)
    rows = shape.features * (2 if final == "glu" else 1)
    transposed = facts.infer("transposed", len(linear.shape("bias")) == 2)
    bias = linear.take("bias", rows, 1)[:, 0] if transposed else linear.take("bias", rows)
    name = "glu" if final == "glu" else ACTIVATION_NAMES[final]
    return _weight(tensors, facts, linear, rows, columns), bias, name


def _weight(tensors: Tensors, facts: Facts, linear: Tensors, rows: int, columns: int) -> Float:
    name = _weight_name(tensors)
    direction = linear.take(name, rows, columns)
    if name == "weight":
        # Without effect once folded into the weight.
        facts.ignore("weight_norm")
        return direction
    facts.infer("weight_norm", True)
    other = {"weight_v": "weight_g"}.get(name, "parametrizations.weight.original0")
    size = linear.take(other, rows, 1)
    return size * direction / np.linalg.norm(direction, axis=1, keepdims=True)


def _layout(tensors: StateDict, known: dict[str, Any]) -> Layout:
    """The DSS layer: one ``Lambda`` for all channels."""
    if "kernel.Lambda" in tensors:
        parts = numbers(tensors, "kernel.Lambda")
        pole = parts[:, 0] + 1j * parts[:, 1]
        if known.get("version") != "softmax":
            most = float(known.get("max_real_Lambda", FLOOR))
            pole = np.minimum(pole.real, most) + 1j * pole.imag
    else:
        pole = -np.exp(numbers(tensors, "kernel.Lambda_log_neg_re")) + 0j
        if "kernel.Lambda_log_im" in tensors:
            pole = pole + 1j * np.exp(numbers(tensors, "kernel.Lambda_log_im"))
        else:
            pole = pole + 1j * numbers(tensors, "kernel.Lambda_im")
    step = np.exp(numbers(tensors, "kernel.log_dt"))
    steps = step if step.ndim == 2 else np.stack([step, step], axis=1)

    def write(pole: Complex) -> dict[str, Float]:
        if "kernel.Lambda" in tensors:
            return {"kernel.Lambda": np.stack([pole[0].real, pole[0].imag], axis=-1)}
        new = {"kernel.Lambda_log_neg_re": invert(-pole[0].real, "exp", "Lambda_log_neg_re")}
        if "kernel.Lambda_log_im" in tensors:
            return new | {"kernel.Lambda_log_im": invert(pole[0].imag, "exp", "Lambda_log_im")}
        return new | {"kernel.Lambda_im": pole[0].imag}

    upper = True if "kernel.Lambda_log_im" in tensors else None
    return Layout(pole[None], steps, "kernel.W", False, 1.0, False, write, upper)


_ATTRIBUTES = {
    **{name: name for name in ("transposed", "max_kernel_length")},
    **{f"kernel.{name}": name for name in ("version", "epsilon", "max_real_Lambda")},
}
READER = LayerReader(
    "DSS",
    _CLASSES,
    _claims,
    _read,
    layout=_layout,
    attributes=_ATTRIBUTES,
    activations=OLDER_ACTIVATIONS,
)
