"""The S4 layer of version 3 (``src/models/s4/s4.py``), diagonal and diagonal plus low-rank."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from s4edge.arrays import Complex, Float
from s4edge.checkpoints.diagonal import Diagonal, read_diagonal
from s4edge.checkpoints.discretize import known_length
from s4edge.checkpoints.dplr import LowRankSystems, read_bandlimit, read_low_rank
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.s4_older import KERNEL, infer_axes, read_layer, step_sizes
from s4edge.checkpoints.stored_kernels import Kernels, infer_state_size, infer_word, stored_length
from s4edge.checkpoints.tensors import Tensors
from s4edge.checkpoints.transforms import TRANSFORMS, transform
from s4edge.checkpoints.upstream_layer import (
    OLDER_ACTIVATIONS,
    LayerReader,
    LiveKernel,
    UpstreamLayer,
)
from s4edge.errors import S4EdgeError
from s4edge.systems.modes import Modes

# A delayed mode's first value, which D takes back, is so much larger than the mode's at most.
_LARGEST_GAIN = 1e8
# Weights of growing modes are kept at the kernel's start; beyond exp(-this) they are lost.
_LARGEST_GROWTH = 690.0
_CLASSES = ("src.models.s4.s4.S4", "src.models.sequence.ss.s4.S4")


def _poles(tensors: Tensors, facts: Facts, name: str, floor: float) -> Complex:
    """``-f(inv_{name}_real) + i {name}_imag``, (systems, half)."""
    stored = f"{KERNEL}inv_{name}_real"
    systems, half = tensors.shape(stored, "systems", "d_state / 2")
    infer_state_size(facts, half)
    real_type = facts.get("real_type", "exp", allowed=TRANSFORMS)
    real = transform(tensors.take(stored, systems, half), real_type, floor)
    return -real + 1j * tensors.take(f"{KERNEL}{name}_imag", systems, half)


def _read_diagonal(tensors: Tensors, facts: Facts, d_model: int, rows: int) -> Kernels:
    infer_word(facts, "mode", "diag")
    A = _poles(tensors, facts, "A", floor=1e-4)
    systems, half = A.shape
    # The poles before training, which upstream stores beside those it uses.
    if KERNEL + "A" in tensors:
        tensors.take_complex(KERNEL + "A", systems, half)
    B = tensors.take_complex(KERNEL + "B", systems, half)
    C = tensors.take_complex(KERNEL + "C", rows, d_model, half)
    diagonal = Diagonal(A, B, C, step_sizes(tensors, d_model))
    return read_diagonal(diagonal, tensors, facts, "bilinear", "s4-v3-diag", 2 * half)


def _read_low_rank(tensors: Tensors, facts: Facts, d_model: int, rows: int) -> Kernels:
    infer_word(facts, "mode", "nplr")
    A = _poles(tensors, facts, "w", floor=0.0)
    systems, half = A.shape
    rank = tensors.shape(KERNEL + "P", "rank", "systems", "d_state / 2", "2")[0]
    P = tensors.take_complex(KERNEL + "P", rank, systems, half)
    low_rank = LowRankSystems(
        A=A,
        P=P,
        Q=P.conj(),
        B=tensors.take_complex(KERNEL + "B", 1, systems, half)[0],
        C=tensors.take_complex(KERNEL + "C", rows, d_model, half),
        step=step_sizes(tensors, d_model),
        stored_length=stored_length(tensors, KERNEL + "L"),
    )
    band = read_bandlimit(facts, low_rank.stored_length)
    return read_low_rank(low_rank, tensors, "s4-v3-dplr", band)


def _read(tensors: Tensors, facts: Facts, d_model: int) -> UpstreamLayer:
    low_rank = KERNEL + "inv_w_real" in tensors
    kernel = _read_low_rank if low_rank else _read_diagonal
    # The training repository's linear layers look the same either way.
    infer_axes(tensors, facts, plain=False)
    layer = read_layer(tensors, facts, d_model, kernel, cuts=True)
    if not facts.get("shift", False, allowed=(False, True)):
        return layer
    where = f"{tensors.path}: {tensors.prefix.rstrip('.') or 'the layer'}"
    cut, length = layer.kernel_length, None
    if cut is not None or layer.backward is not None:
        length = known_length(
            facts, "with shift=true what upstream computes depends on the length of the sequences"
        )
    if cut is not None and length is not None and length > cut:
        raise S4EdgeError(
            f"{where} has shift=true, by which upstream computes no convolution for sequences of "
            f"{length} samples where l_max={cut} cuts the kernel; up to that it does: "
            "--set length=..."
        )
    if layer.backward is not None and length is not None:
        turned = _turned_round(layer.backward, layer.D, length, where)
        return replace(layer, **turned, backward=None, kernel_length=None, length=length)
    return replace(_delayed(layer, where), kernel_length=None, length=length)


def _turned_round(backward: Modes, D: Float, length: int, where: str) -> dict[str, Any]:
    """``K[k] = K_backward[length - k]``, k from 1: all that ``shift`` leaves of both directions.

    Upstream flips the kernel, in which the backward half stands behind the forward one, pads it and
    cuts it to twice the length.
    """
    decay = -backward.log_pole.real * length
    if decay.max(initial=0) > _LARGEST_GROWTH:
        raise S4EdgeError(
            f"{where} is bidirectional with shift=true, by which modes grow by "
            f"exp({decay.max():.0f}) over {length} samples, more than floating point numbers hold"
        )
    weight = backward.weight * np.exp(length * backward.log_pole)
    modes = Modes.make(-backward.log_pole, weight, backward.channel, backward.channels)
    first = np.bincount(modes.channel, weights=modes.weight.real, minlength=modes.channels)
    return {"modes": modes, "D": D - first}


def _delayed(layer: UpstreamLayer, where: str) -> UpstreamLayer:
    """``K[k - 1]`` for ``K[k]``: what upstream's ``shift`` does (both ends flipped and padded)."""
    modes = layer.modes
    with np.errstate(over="ignore", invalid="ignore"):
        weight = modes.weight * np.exp(-modes.log_pole)
        before = np.bincount(modes.channel, weights=weight.real, minlength=modes.channels)
    largest = np.abs(modes.weight).max(initial=0)
    if not np.abs(weight).max(initial=0) <= _LARGEST_GAIN * largest:
        raise S4EdgeError(
            f"{where} has shift=true and poles too near 0 for a delay; retrain without it"
        )
    modes = Modes.make(modes.log_pole, weight, modes.channel, modes.channels)
    return replace(layer, modes=modes, D=layer.D - before)


def _claims(tensors: Tensors) -> bool:
    return KERNEL + "inv_A_real" in tensors or KERNEL + "inv_w_real" in tensors


_KERNEL_ATTRIBUTES = ("disc", "real_type", "bandlimit")
_ATTRIBUTES = {
    **{name: name for name in ("transposed", "channels", "shift")},
    "L": "l_max",
    # It has a kernel in its kernel.
    **{f"kernel.kernel.{name}": name for name in _KERNEL_ATTRIBUTES},
}
READER = LayerReader(
    "S4 of version 3",
    _CLASSES,
    _claims,
    _read,
    attributes=_ATTRIBUTES,
    activations=OLDER_ACTIVATIONS,
    kernels=(
        LiveKernel(
            frozenset(("log_dt", "inv_A_real", "B", "C")),
            KERNEL,
            "D",
            {"linear": True, "hyper_act": None},
            _KERNEL_ATTRIBUTES,
        ),
    ),
)
