"""Upstream's residual functions, each under its names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from s4edge.arrays import Float
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.tensors import Tensors
from s4edge.errors import S4EdgeError
from s4edge.model.configuration import Residual

_NAMES = {
    "F": "F", "N": "F", "none": "F", "ff": "F", "feedforward": "F", "R": "R", "residual": "R",
    "D": "D", "decay": "D", "A": "A", "affine": "A", "H": "H", "highway": "H",
}  # fmt: skip
# Upstream's own rounding of the square root of 3.
_HIGHWAY_SCALE = 1.732


@dataclass(frozen=True)
class ResidualReading:
    """How a block's input and its layer's output are joined.

    Attributes:
        weights: of both, or None for the output alone.
        form: see `s4edge.model.configuration.BlockConfig`.
        parameters: by their names in a `s4edge.model.block.Block`.
        note: what a person should know.
    """

    weights: tuple[float, float] | None = None
    form: Residual = "sum"
    parameters: Mapping[str, Float] = field(default_factory=dict)
    note: str | None = None


def read_residual(
    tensors: Tensors, facts: Facts, number: int, width: int, drops_output: bool
) -> ResidualReading:
    """The residual of a block.

    Args:
        tensors: of the block.
        facts: of the backbone.
        number: of the block, from 1.
        width: features that leave its layer.
        drops_output: whether no residual means that the layer's output is dropped, as in version 2.

    Raises:
        S4EdgeError: it cannot be read, or is not known.
    """
    residual = facts.part("residual")
    if facts.leaves_out("residual"):
        word = None
    else:
        word = residual.word(
            why="whether and how the blocks' inputs are added cannot be told from tensors"
        )
    if word is None:
        if not drops_output:
            return ResidualReading()
        note = "version 2 without a residual drops the layer's output: the block gives its input"
        return ResidualReading((1.0, 0.0), note=note)
    kind = _NAMES.get(str(word))
    if kind == "F":
        return ResidualReading()
    if kind == "R":
        alpha = _real(residual, "alpha", 1.0)
        return ResidualReading((alpha, _real(residual, "beta", 1.0)))
    if kind == "D":
        beta = number ** -_real(residual, "power", 0.5)
        squares = residual.get("l2", True, allowed=(True, False))
        return ResidualReading(((1 - beta**2) ** 0.5 if squares else 1 - beta, beta))
    if kind == "A":
        return _affine(tensors, residual, width)
    if kind == "H":
        return _highway(tensors, residual, facts, width)
    raise S4EdgeError(
        f"{tensors.path}: residual={word} cannot be read; supported: {', '.join(_NAMES)} or null"
    )


def _affine(tensors: Tensors, residual: Facts, width: int) -> ResidualReading:
    """``beta``, ``gamma`` and ``scalar`` are how the factor starts."""
    residual.ignore("beta", "gamma", "scalar")
    count = tensors.shape("residual.affine", "factors")[0]
    factor = tensors.take("residual.affine", width if count != 1 else 1)
    return ResidualReading(
        (_real(residual, "alpha", 1.0), 1.0),
        "scaled",
        {"residual_scale": np.full(width, factor)},
    )


def _highway(tensors: Tensors, residual: Facts, facts: Facts, width: int) -> ResidualReading:
    if facts.get("transposed", False, allowed=(False, True)):
        raise S4EdgeError(
            f"{tensors.path}: residual=H with transposed=true cannot be read: upstream's linear "
            "layers then mix the samples of sequences that are as long as the model is wide"
        )
    scaled = residual.get("scaling_correction", False, allowed=(False, True))
    by_element = "residual.Wy" in tensors
    residual.infer("elemwise", by_element)
    inputs = tensors.linear("residual.Wx.", width, width)
    if by_element:
        weight, bias = np.diag(tensors.take("residual.Wy", width)), np.zeros(width)
    else:
        outputs = tensors.linear("residual.Wy.", width, width)
        weight, bias = outputs.weight, outputs.bias
    return ResidualReading(
        (_HIGHWAY_SCALE if scaled else 1.0, 1.0),
        "highway",
        {
            "highway.input.weight": inputs.weight,
            "highway.input.bias": inputs.bias,
            "highway.output.weight": weight,
            "highway.output.bias": bias,
        },
    )


def _real(residual: Facts, key: str, default: float) -> float:
    """A finite number of either sign."""
    value = residual.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise S4EdgeError(
            f"{residual.path}: {residual.name(key)}={value} cannot be read; it is a number"
        )
    return float(value)
