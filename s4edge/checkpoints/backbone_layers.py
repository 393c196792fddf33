"""A layer as upstream's ``SequenceModel`` holds it: one with systems, ``ffn`` or ``id``; or two.

A bidirectional backbone runs two copies of each layer on the same input (neither of them backward),
puts their outputs side by side and mixes them with ``bidirectional_linear``.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from s4edge.arrays import Float
from s4edge.checkpoints import linear
from s4edge.checkpoints.assemble import feedforward, without_systems
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.layer_readers import find_reader, read_layer
from s4edge.checkpoints.output_layer import GLU_NAMES
from s4edge.checkpoints.tensors import Linear, Tensors
from s4edge.checkpoints.upstream_layer import ACTIVATION_NAMES, UpstreamLayer
from s4edge.errors import S4EdgeError
from s4edge.model.activations import output_width
from s4edge.systems.modes import Modes

# Upstream's layers that are no diagonal systems of one dimension.
_WHY_NOT = {
    "conv1d": "a convolution layer is no state space system",
    "conv2d": "convolution layers and images are no sequences of state space systems",
    "s4nd": "it is two-dimensional: it has no order in time",
    "mha": "attention is no state space system",
    "vit": "attention is no state space system",
    "performer": "attention is no state space system",
    "lstm": "a nonlinear recurrence is no state space system",
    "rnn": "a nonlinear recurrence is no state space system",
    "sru": "a nonlinear recurrence is no state space system",
    "qrnn": "a nonlinear recurrence is no state space system",
    "unicornn": "a nonlinear recurrence is no state space system",
    "lssl": "LSSL's matrices are dense and depend on the step",
    "fftconv": "a bare convolution without an output layer is no layer that s4edge reads",
    "mega": "Mega's blocks have attention in them",
    "h3": "H3's layers multiply two systems",
    "h4": "H4's layers multiply two systems",
}


@dataclass(frozen=True)
class LayerReading:
    """A layer of a backbone.

    Attributes:
        name: of its reader, for people.
        layer: of it.
        projection: a linear layer behind it, or None.
        d_output: features that leave it; None: as many as enter.
    """

    name: str
    layer: UpstreamLayer
    projection: Linear | None = None
    d_output: int | None = None


def check_kinds(backbone: Tensors, options: list[Facts]) -> None:
    """Refuse layers of kinds that are not read, before anything else is asked.

    Raises:
        S4EdgeError: there is one.
    """
    for index, each in enumerate(options):
        word = each.saved.get("_name_")
        layer = backbone.under(f"layers.{index}.layer.")
        if word in _WHY_NOT and find_reader(layer) is None:
            raise S4EdgeError(
                f"{layer.path}: {layer.prefix.rstrip('.')} is of the kind {word}, which cannot be "
                f"read: {_WHY_NOT[str(word)]}; SequenceModels of s4, s4d, dss, ffn and id layers "
                "can"
            )


def read_backbone_layer(
    tensors: Tensors, options: Facts, features: int, length: int | None
) -> LayerReading:
    """The layer of a block.

    Args:
        tensors: of the layer.
        options: its part of the configuration, which several layers may share.
        features: that enter.
        length: of the sequences that enter, where it is known.

    Raises:
        S4EdgeError: it cannot be read.
    """
    facts = options.again(**({} if length is None else {"length": length}))
    word = facts.get("_name_") if facts.says("_name_") else None
    if word is not None:
        facts.given["layer"] = facts.given.pop(facts.name("_name_"))
    # The backbone gives these to each layer.
    facts.ignore("_name_", "transposed", "dropout")
    if "ff.0.0.weight" in tensors or "ff.0.weight" in tensors:
        return _feedforward(tensors, facts.called("ffn", "ff"), features)
    if word == "id" or (not tensors.names() and word is None and not options.saved):
        # Whatever else it is given it does nothing with.
        facts.ignore(*facts.saved)
        return LayerReading("identity", without_systems(features))
    reader, layer = read_layer(tensors, facts, features)
    return LayerReading(reader.name, layer)


def _feedforward(tensors: Tensors, facts: Facts, features: int) -> LayerReading:
    """Two linear layers with an activation between; transposed in version 2, biases are (d, 1)."""
    facts.ignore("expand", "d_output", "initializer", "tie_dropout")
    # Without an activation the first linear layer stands alone, not in a sequence with it.
    plain = "ff.0.0.weight" not in tensors
    first_name = "ff.0." if plain else "ff.0.0."
    rows, _ = linear.size(tensors, first_name)
    outputs, columns = linear.size(tensors, "ff.2.")
    first = Linear(*linear.take(tensors, first_name, rows, features))
    second = Linear(*linear.take(tensors, "ff.2.", outputs, columns))
    if plain:
        name = facts.infer("activation", None)
    elif rows == 2 * columns:
        name = facts.get("activation", "glu", allowed=tuple(GLU_NAMES))
    else:
        name = facts.get("activation", "gelu", allowed=tuple(ACTIVATION_NAMES))
    activation = GLU_NAMES[name] if rows == 2 * columns else ACTIVATION_NAMES[name]
    if output_width(activation, rows) != columns:
        raise S4EdgeError(
            f"{tensors.path}: {tensors.prefix}ff has a first layer of {rows} rows and a second of "
            f"{columns} columns, which activation={name} does not join"
        )
    return LayerReading(
        "feed-forward",
        feedforward(first, activation, features),
        second,
        None if outputs == features else outputs,
    )


def join(tensors: Tensors, first: LayerReading, second: LayerReading) -> LayerReading:
    """Two copies of a layer on the same input, and the linear layer that mixes their outputs.

    Raises:
        S4EdgeError: they cannot be put side by side.
    """
    widths = [_width(first), _width(second)]
    mix = tensors.linear("bidirectional_linear.", None, sum(widths))
    parts = np.split(mix.weight, [widths[0]], axis=1)
    bias = mix.bias
    if first.projection is not None and second.projection is not None:
        # Linear layers one after another are one.
        projections = (first.projection, second.projection)
        bias = bias + sum(part @ each.bias for part, each in zip(parts, projections, strict=True))
        parts = [part @ each.weight for part, each in zip(parts, projections, strict=True)]
    return LayerReading(
        first.name,
        _side_by_side(tensors, first.layer, second.layer),
        Linear(np.concatenate(parts, axis=1), bias),
        first.d_output,
    )


def _width(reading: LayerReading) -> int:
    """Features that leave a layer."""
    if reading.projection is not None:
        return len(reading.projection.bias)
    layer = reading.layer
    if layer.mixing_bias is not None:
        return output_width(layer.final_activation, len(layer.mixing_bias))
    return output_width(layer.activation, len(layer.D))


def _side_by_side(tensors: Tensors, first: UpstreamLayer, second: UpstreamLayer) -> UpstreamLayer:
    """Both layers' systems and what follows, the outputs of the second behind those of the first.

    An activation of the "glu" family takes the first half of what enters times the second half, so
    that each half of the first stands before the same half of the second.
    """
    for layer in (first, second):
        if layer.gate or layer.hyper:
            raise S4EdgeError(
                f"{tensors.path}: a bidirectional backbone around gated layers cannot be read"
            )
    order = _interleaved(first.activation, len(first.D), len(second.D))
    place = np.argsort(order)
    shift = len(first.D)

    def moved(modes: Modes | None, other: Modes | None) -> Modes | None:
        if modes is None or other is None:
            return None
        total = modes.channels + other.channels
        return Modes.concatenate(
            [
                dataclasses.replace(modes, channel=place[modes.channel], channels=total),
                dataclasses.replace(other, channel=place[other.channel + shift], channels=total),
            ]
        )

    inputs = [
        np.arange(len(layer.D)) if layer.inputs is None else layer.inputs
        for layer in (first, second)
    ]
    forward = moved(first.modes, second.modes)
    assert forward is not None
    weight, bias = _both_mixings(first, second)
    return dataclasses.replace(
        first,
        kind=f"{first.kind} x 2",
        modes=forward,
        backward=moved(first.backward, second.backward),
        D=np.concatenate([first.D, second.D])[order],
        mixing_weight=weight,
        mixing_bias=bias,
        inputs=np.concatenate(inputs)[order],
        notes=first.notes + tuple(note for note in second.notes if note not in first.notes),
    )


def _interleaved(activation: str, first: int, second: int) -> Any:
    """(first + second,) which of the numbers of both stands at each place."""
    parts = 2 if activation.startswith("glu") else 1
    return np.concatenate(
        [
            np.arange(first).reshape(parts, -1),
            first + np.arange(second).reshape(parts, -1),
        ],
        axis=1,
    ).reshape(-1)


def _both_mixings(first: UpstreamLayer, second: UpstreamLayer) -> tuple[Float | None, Float | None]:
    """The linear layers of both, each on its own part."""
    if first.mixing_weight is None or second.mixing_weight is None:
        return None, None
    assert first.mixing_bias is not None
    assert second.mixing_bias is not None
    (rows, columns), (more_rows, more_columns) = (
        first.mixing_weight.shape, second.mixing_weight.shape,
    )  # fmt: skip
    weight = np.zeros((rows + more_rows, columns + more_columns))
    weight[:rows, :columns] = first.mixing_weight
    weight[rows:, columns:] = second.mixing_weight
    order = _interleaved(first.final_activation, rows, more_rows)
    return weight[order], np.concatenate([first.mixing_bias, second.mixing_bias])[order]
