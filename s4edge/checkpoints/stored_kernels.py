"""What the kernels of upstream's S4 layers have in common, whatever their version."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np

from s4edge.arrays import Complex, Float, Int
from s4edge.checkpoints import linear
from s4edge.checkpoints.discretize import whole_number
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.tensors import Tensors
from s4edge.checkpoints.upstream_layer import UpstreamLayer
from s4edge.errors import S4EdgeError
from s4edge.model.configuration import FinalActivation
from s4edge.systems.modes import Modes

Array = TypeVar("Array", Float, Complex)


@dataclass(frozen=True)
class Kernels:
    """Kernels of one layer: each feature has its poles, each (row, feature) its weights.

    Rows are upstream's channels, twice as many where kernels also run from the end.

    Attributes:
        log_pole: (modes,), or (rows, modes) where every row has poles of its own.
        feature: (modes,) of each mode.
        weight: (rows, modes).
        features: their number.
        kind: of the layer, for people.
        state_size: upstream's ``d_state``.
        states_per_size: real states per unit of it.
        length: the one sequence length they are exact for, or None.
        notes: on how they were read.
    """

    log_pole: Complex
    feature: Int
    weight: Complex
    features: int
    kind: str
    state_size: int
    states_per_size: int = 1
    length: int | None = None
    notes: tuple[str, ...] = ()

    @staticmethod
    def diagonal(
        log_pole: Complex, weight: Complex, kind: str, state_size: int, length: int | None = None
    ) -> Kernels:
        """From (features, modes) poles and (rows, features, modes) weights."""
        features, count = log_pole.shape
        return Kernels(
            log_pole.reshape(-1),
            np.repeat(np.arange(features), count),
            weight.reshape(len(weight), -1),
            features,
            kind,
            state_size,
            length=length,
        )

    def rows(self, start: int, stop: int) -> Kernels:
        """Some of the rows."""
        own = self.log_pole[start:stop] if self.log_pole.ndim == 2 else self.log_pole
        return replace(self, log_pole=own, weight=self.weight[start:stop])

    def modes(self, interleaved: bool) -> Modes:
        """System ``row * features + feature``, or ``feature * rows + row`` if interleaved."""
        rows = len(self.weight)
        row = np.arange(rows)[:, None]
        system = self.feature * rows + row if interleaved else row * self.features + self.feature
        log_pole = np.broadcast_to(self.log_pole, self.weight.shape)
        return Modes.make(log_pole, self.weight, system, rows * self.features)


def as_layer(
    kernels: Kernels,
    D: Float,
    activation: FinalActivation,
    output: tuple[Float | None, Float | None, FinalActivation],
    cut: int | None,
    interleaved: bool = False,
) -> UpstreamLayer:
    """A layer without what only some layouts have: channels flattened, directions split.

    Args:
        kernels: as many rows as ``D`` has, or twice as many, the second half from the end.
        D: (channels, features).
        activation: after the systems.
        output: of `s4edge.checkpoints.output_layer.read_output`.
        cut: see `Layer.kernel_length`.
        interleaved: whether a feature's channels stand together.
    """
    rows, features = D.shape
    both = len(kernels.weight) == 2 * rows
    feature = np.tile(np.arange(features), (rows, 1))
    order: Literal["C", "F"] = "F" if interleaved else "C"
    weight, bias, final = output
    return UpstreamLayer(
        kind=kernels.kind,
        modes=kernels.rows(0, rows).modes(interleaved),
        D=D.flatten(order),
        state_size=kernels.state_size,
        states_per_size=kernels.states_per_size,
        activation=activation,
        mixing_weight=weight,
        mixing_bias=bias,
        final_activation=final,
        length=kernels.length,
        inputs=feature.flatten(order) if rows > 1 else None,
        backward=kernels.rows(rows, 2 * rows).modes(interleaved) if both else None,
        kernel_length=cut,
        notes=kernels.notes,
    )


def infer_rows(tensors: Tensors, facts: Facts, weights: str, features: int = 1) -> tuple[int, int]:
    """Rows of ``D`` and of the kernel; notes whether the layer is bidirectional.

    Args:
        tensors: of the layer.
        facts: about it.
        weights: the name of the tensor with the kernel's weights.
        features: how many rows of ``weights`` one row of the kernel has.

    Raises:
        S4EdgeError: the two do not fit each other.
    """
    rows = tensors.shape("D", "channels", "d_model")[0]
    shape = tensors.shape(weights)
    directions, odd = divmod(shape[0] if shape else 0, rows * features)
    if odd or directions not in (1, 2):
        raise S4EdgeError(
            f"{tensors.path}: {tensors.prefix}{weights} has shape {shape}, "
            f"expected as many rows as {tensors.prefix}D has ({rows}) or twice as many"
            + (f", times {features}" if features > 1 else "")
        )
    facts.infer("bidirectional", directions == 2)
    return rows, directions * rows


def tile(value: Array, d_model: int, tensors: Tensors) -> Array:
    """The ``n_ssm`` trained systems, tiled over the features.

    Raises:
        S4EdgeError: their number does not divide ``d_model``.
    """
    systems = len(value)
    if d_model % systems:
        raise S4EdgeError(
            f"{tensors.path}: {tensors.prefix.rstrip('.')} has {systems} systems, which do not "
            f"divide d_model = {d_model}"
        )
    return np.concatenate([value] * (d_model // systems))


def infer_state_size(facts: Facts, half: int) -> int:
    """Note ``d_state`` where conjugate pairs are stored; upstream makes ``d_state // 2`` of it."""
    size = odd = 2 * half + 1
    said = facts.get("d_state") if facts.says("d_state") else None
    if said != odd or isinstance(said, bool):
        size = 2 * half
    facts.infer("d_state", size)
    return 2 * half


def infer_word(facts: Facts, key: str, *words: str) -> None:
    """Note what the tensors tell, in whichever of upstream's words for it was given.

    Raises:
        S4EdgeError: another word was given.
    """
    given = facts.get(key) if facts.says(key) else words[0]
    facts.infer(key, given if given in words else words[0])


def infer_kernel(facts: Facts, *words: str) -> None:
    """`infer_word` for the kind of kernel: ``mode``, or where that is null ``kernel``."""
    unsaid = not facts.says("mode") or facts.get("mode") is None
    named = facts.says("kernel") and facts.get("kernel") is not None
    facts.ignore("mode", "kernel")
    infer_word(facts, "kernel" if unsaid and named else "mode", *words)


def refuse_bottleneck(tensors: Tensors, facts: Facts) -> None:
    """Refuse a linear layer before the systems.

    Raises:
        S4EdgeError: there is one.
    """
    said = facts.get("bottleneck") if facts.says("bottleneck") else None
    facts.ignore("bottleneck")
    if said is None and linear.find(tensors, "input_linear.", "input_linear.0.") is None:
        return
    raise S4EdgeError(
        f"{tensors.path}: {tensors.prefix.rstrip('.') or 'the layer'} has a bottleneck: a linear "
        "layer (input_linear) before its systems, which is no part of the form that s4edge reads; "
        "retrain without it"
    )


def kernel_length(facts: Facts, key: str = "l_max") -> int | None:
    """Where upstream cuts kernels, mostly its ``l_max``.

    Raises:
        S4EdgeError: it is no number of samples.
    """
    length = facts.get(key, None)
    return None if length is None else whole_number(facts, key, length)


def stored_length(tensors: Tensors, name: str) -> int:
    """The length that a low-rank kernel's ``C`` was transformed for, 0 if it was not.

    Raises:
        S4EdgeError: it is missing or no length.
    """
    length = tensors.take_count(name)
    if length is None or length < 0:
        raise S4EdgeError(
            f"{tensors.path}: {tensors.prefix}{name}, the length of its kernels, is "
            f"{'missing' if length is None else length}; the file is damaged"
        )
    return length
