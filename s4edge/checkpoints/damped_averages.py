"""Mega's damped exponential moving averages: diagonal systems with real poles between 0 and 1.

``K[k] = sum_n p_n b_n c_n (1 - p_n d_n)^k / sqrt(N)`` with ``p`` and ``d`` sigmoids of parameters
(Ma et al. 2023, "Mega: Moving Average Equipped Gated Attention", equations 2 to 4). As upstream's
S4Block of ``mode: ema`` has it, and as the layer of its own in Mega's code, in upstream's copy of
that, and in transformers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from s4edge.arrays import Complex, Float
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.stored_kernels import Kernels, kernel_length
from s4edge.checkpoints.tensors import Tensors
from s4edge.checkpoints.upstream_layer import LayerReader, UpstreamLayer
from s4edge.errors import S4EdgeError
from s4edge.model.configuration import Activation

WEIGHTS = "kernel.gamma"
"""Of an S4Block's kernel, (rows x features, N)."""


# Options of upstream's other kernels, which this one takes and does not use.
_OTHERS = (
    "disc", "real_transform", "imag_transform", "dt_transform", "dt_fast", "bandlimit", "is_real",
    "comp",
)  # fmt: skip


@dataclass(frozen=True)
class _Names:
    """What one code base calls a layer's tensors.

    Attributes:
        cls: its class.
        damping: behind whose sigmoid ``p`` is.
        decay: behind whose sigmoid ``d`` is.
        expansion: ``b``.
        projection: ``c``.
        feedthrough: ``D``.
        activation: that the layer ends with.
        width: its word for the number of features.
        size: its word for N.
        cut: its word for the kernels' length.
    """

    cls: str
    damping: str
    decay: str
    expansion: str
    projection: str
    feedthrough: str
    activation: Activation
    width: str
    size: str
    cut: str


_UPSTREAM = _Names(
    "src.models.sequence.modules.megablock.MultiHeadEMA",
    "delta", "alpha", "beta", "gamma", "omega", "identity", "d_model", "d_state", "l_max",
)  # fmt: skip
_FAIRSEQ = _Names(
    "fairseq.modules.exponential_moving_average.MultiHeadEMA",
    "alpha", "delta", "beta", "gamma", "omega", "silu", "embed_dim", "ndim", "truncation",
)  # fmt: skip
_TRANSFORMERS = _Names(
    "transformers.models.mega.modeling_mega.MegaMultiDimensionDampedEma",
    "damping_factor", "decay_factor", "ema_expansion_matrix", "kernel_projection_matrix",
    "residual_weight", "silu", "hidden_size", "ema_projection_size", "truncation",
)  # fmt: skip


def claims(tensors: Tensors) -> bool:
    """Whether a convolution's kernel, under ``kernel.``, is of such averages."""
    return "kernel.alpha" in tensors and WEIGHTS in tensors


def read_kernel(tensors: Tensors, facts: Facts, features: int, rows: int) -> Kernels:
    """The kernel of upstream's S4Block of ``mode: ema``.

    Args:
        tensors: of the convolution.
        facts: about it.
        features: that it has.
        rows: channels, for both directions together.

    Raises:
        S4EdgeError: a tensor is missing or has another shape.
    """
    systems, N, _ = tensors.shape("kernel.alpha", "systems", "d_state", "1")
    facts.infer("d_state", N)
    facts.ignore(*_OTHERS)
    shared = systems == features < rows * features
    if rows > 1:
        facts.infer("efficient_bidirectional", shared)
    else:
        facts.ignore("efficient_bidirectional")
    expected = features if shared else rows * features
    # One for all of a system's poles with dt_tie.
    tied = tensors.shape("kernel.delta", "systems", "d_state", "1")[1] == 1
    damping = _sigmoid(tensors.take("kernel.delta", expected, 1 if tied else N, 1)[..., 0])
    decay = _sigmoid(tensors.take("kernel.alpha", expected, N, 1)[..., 0])
    expansion = tensors.take("kernel.beta", expected, N, 1)[..., 0]
    projection = tensors.take(WEIGHTS, rows * features, N).reshape(rows, features * N)
    log_pole, gain = _discrete(damping, decay, expansion)
    own = (features * N,) if shared else (rows, features * N)
    return Kernels(
        log_pole.reshape(own),
        np.repeat(np.arange(features), N),
        (projection * gain.reshape(own)).astype(np.complex128),
        features,
        "s4block-ema",
        N,
    )


def _discrete(damping: Float, decay: Float, expansion: Float) -> tuple[Complex, Float]:
    """``log a`` and what the projection is multiplied by, (systems, N) both."""
    log_pole = np.log1p(-damping * decay)
    return log_pole.astype(np.complex128), damping * expansion / np.sqrt(expansion.shape[-1])


def _sigmoid(x: Float) -> Float:
    return 1 / (1 + np.exp(-x))


# The layer of its own


def _claims(tensors: Tensors) -> bool:
    return _names(tensors) is not None


def _names(tensors: Tensors) -> _Names | None:
    for names in (_TRANSFORMERS, _UPSTREAM):
        needed = (names.damping, names.decay, names.expansion, names.projection, names.feedthrough)
        if all(name in tensors for name in needed):
            # Mega's own code and upstream's copy have the same names in other roles.
            own = names is _UPSTREAM and len(tensors.shape(names.expansion)) == 3
            return _FAIRSEQ if own else names
    return None


def features(tensors: Tensors) -> int | None:
    """Of a layer's input; None if it is no such layer."""
    names = _names(tensors)
    return None if names is None else tensors.shape(names.feedthrough, "features")[0]


def _read(tensors: Tensors, facts: Facts, d_model: int) -> UpstreamLayer:
    names = _names(tensors)
    assert names is not None  # that is how it was claimed
    systems, N = tensors.shape(names.projection, "systems", "d_state")
    facts.infer(names.width, d_model)
    facts.infer(names.size, N)
    both = facts.infer("bidirectional", systems == 2 * d_model)
    expected = (2 if both else 1) * d_model
    damping, decay = (
        _sigmoid(tensors.take(name, expected, N, 1)[..., 0])
        for name in (names.damping, names.decay)
    )
    ones = () if names is _UPSTREAM else (1,)
    expansion = tensors.take(names.expansion, expected, N, *ones).reshape(expected, N)
    projection = tensors.take(names.projection, expected, N)
    log_pole, gain = _discrete(damping, decay, expansion)
    kernels = Kernels.diagonal(
        log_pole[:d_model], (projection * gain)[None, :d_model].astype(np.complex128), "mega-ema", N
    )
    D = tensors.take(names.feedthrough, d_model)
    backward = None
    cut = _cut(facts, names)
    if both:
        poles, weight = log_pole[d_model:], (projection * gain)[d_model:]
        skips, at_once = _lags(tensors, facts, names, cut)
        if at_once:
            D = D + weight.sum(-1)
        if skips:
            weight = weight * np.exp(poles.real)
        backward = Kernels.diagonal(poles, weight[None].astype(np.complex128), "mega-ema", N).modes(
            False
        )
    elif names is _FAIRSEQ:
        facts.ignore("shift")
    notes: tuple[str, ...] = ()
    if names is not _UPSTREAM:
        notes = (
            "its code takes (length, batch, features); read, it takes (batch, length, features)",
        )
    return UpstreamLayer(
        kind="mega-ema",
        modes=kernels.modes(False),
        D=D,
        state_size=N,
        states_per_size=1,
        activation=names.activation,
        mixing_weight=None,
        mixing_bias=None,
        final_activation="identity",
        backward=backward,
        kernel_length=cut,
        notes=notes,
    )


def _cut(facts: Facts, names: _Names) -> int | None:
    if names is _FAIRSEQ and facts.get(names.cut, None) in (0, -1):
        # As much as none there.
        return None
    return kernel_length(facts, names.cut)


def _lags(tensors: Tensors, facts: Facts, names: _Names, cut: int | None) -> tuple[bool, bool]:
    """Whether the backward kernel's first weight is not of the next sample, and is of this one.

    Raises:
        S4EdgeError: it depends on the code's version, or kernels are cut where the two directions
            have other lengths then.
    """
    shift = None
    if names is _FAIRSEQ:
        shift = facts.get(
            "shift", allowed=(True, False, None),
            why="it is bidirectional, and versions of Mega's code differ in what they do with the "
            "first value of the backward kernel: it is dropped (shift=true, the default), meets "
            "the next sample (false), or the present one (null: code without that option)",
        )  # fmt: skip
    if shift is False:
        return False, False
    if cut is not None:
        raise S4EdgeError(
            f"{tensors.path}: {tensors.prefix.rstrip('.') or 'the layer'} is bidirectional with "
            f"{names.cut}={cut}, where its two kernels differ in length by a sample, which s4edge "
            f"does not read; if sequences are no longer than that, say --set {names.cut}=null"
        )
    return True, shift is None


READER = LayerReader(
    "Mega's moving average",
    (_UPSTREAM.cls, _FAIRSEQ.cls, _TRANSFORMERS.cls),
    _claims,
    _read,
    channels_first=False,
)
