"""Upstream's ``Normalization``, told by its tensors and, where it has none, by its configuration.

``layer``, ``instance``, ``batch`` and ``group`` take the options of torch's layers; ``layer`` of
transposed sequences has one scale and shift for all features (or, not ``scalar``, torch's layer
inside), no ``eps`` and no options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from s4edge.arrays import Float
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.tensors import Tensors
from s4edge.errors import S4EdgeError
from s4edge.model.configuration import Norm

_EPSILON = 1e-5
_KINDS: dict[str, Norm] = {
    "layer": "layer", "instance": "instance", "group": "group", "batch": "batch",
}  # fmt: skip
# Whether a norm has a weight and bias where nothing else is said.
_AFFINE = {"layer": True, "group": True, "batch": True, "instance": False}


@dataclass(frozen=True)
class NormReading:
    """A norm and its parameters, by the names that `s4edge.model.norms` gives them."""

    kind: Norm = "none"
    epsilon: float = 1e-5
    parameters: Mapping[str, Float] = field(default_factory=dict)


def read_norm(tensors: Tensors, facts: Facts, width: int) -> NormReading:
    """A norm of ``width`` features.

    Args:
        tensors: of the module, which has the norm itself under ``norm.``.
        facts: of the backbone, which has the norm's part.
        width: features.

    Raises:
        S4EdgeError: its tensors are not those of what the configuration says, or it cannot be read.
    """
    norm = facts.part("norm")
    if "norm.m" in tensors:
        _infer(norm, "layer, one scale for all features", "layer")
        norm.only("scalar", True)
        return NormReading(
            "standardize",
            0.0,
            {"scale": tensors.take("norm.s", 1), "shift": tensors.take("norm.m", 1)},
        )
    if "norm.ln.weight" in tensors:
        _infer(norm, "layer", "layer")
        norm.only("scalar", False)
        return NormReading("layer", _EPSILON, _affine(tensors.under("norm.ln."), width))
    if "norm.running_mean" in tensors:
        _infer(norm, "batch, folded into a scale and shift", "batch", "instance")
        return _folded(tensors.under("norm."), norm, width)
    return _by_word(tensors, norm, width)


def _by_word(tensors: Tensors, norm: Facts, width: int) -> NormReading:
    affine = "norm.weight" in tensors
    word = norm.word("layer" if affine else None)
    if word in (None, "none") and not affine:
        # Upstream takes options here and does nothing with them.
        norm.ignore(*norm.saved)
        return NormReading()
    option = "elementwise_affine" if word == "layer" else "affine"
    said = norm.says(option)
    wanted = norm.get(option) if said else affine or _AFFINE.get(str(word))
    # Without a weight it is not what it is by default: that must have been said.
    if word not in _KINDS or wanted != affine:
        raise S4EdgeError(
            f"{tensors.path}: norm={word} does not fit the tensors under {tensors.prefix}; "
            "supported: layer, batch, instance, group, none"
        )
    norm.ignore(option, "bias", "momentum")
    norm.only("track_running_stats", False)
    epsilon = norm.number("eps", _EPSILON)
    parameters = _affine(tensors.under("norm."), width) if affine else {}
    return NormReading(_KINDS[word], epsilon, parameters)


def _infer(norm: Facts, told: str, *words: str) -> None:
    """Note what the tensors tell; a word that was said must be one of these."""
    word = norm.word(words[0])
    if word not in words:
        raise S4EdgeError(
            f"{norm.path}: {norm.name('_name_')}={word} was said, the tensors say {told}"
        )
    norm.assumed.pop(norm.title, None)
    norm.inferred[norm.title] = told


def _affine(tensors: Tensors, width: int) -> dict[str, Any]:
    """Weight and bias; torch's layers can do without the latter."""
    bias = tensors.take("bias", width) if "bias" in tensors else np.zeros(width)
    return {"weight": tensors.take("weight", width), "bias": bias}


def _folded(tensors: Tensors, norm: Facts, width: int) -> NormReading:
    """Running statistics, and weight and bias if there are any, as one scale and shift."""
    norm.ignore("momentum", "affine")
    norm.only("track_running_stats", True)
    tensors.take_count("num_batches_tracked")
    mean = tensors.take("running_mean", width)
    variance = tensors.take("running_var", width)
    deviation = np.sqrt(variance + norm.number("eps", _EPSILON))
    weight, bias = np.ones(width), np.zeros(width)
    if "weight" in tensors:
        weight, bias = (tensors.take(name, width) for name in ("weight", "bias"))
    scale = weight / deviation
    return NormReading("affine", 0.0, {"weight": scale, "bias": bias - mean * scale})
