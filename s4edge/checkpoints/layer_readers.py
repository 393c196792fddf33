"""Which reader reads a layer."""

from __future__ import annotations

import dataclasses

import numpy as np

from s4edge.checkpoints import damped_averages, dss, s4_v2, s4_v3, s4block, s4d
from s4edge.checkpoints.discretize import known_length
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.tensors import Tensors
from s4edge.checkpoints.upstream_layer import LayerReader, UpstreamLayer
from s4edge.errors import S4EdgeError

READERS: tuple[LayerReader, ...] = (
    s4d.READER,
    s4block.READER,
    s4_v3.READER,
    s4_v2.READER,
    dss.READER,
    damped_averages.READER,
)


def find_reader(tensors: Tensors) -> LayerReader | None:
    """The reader that recognizes the tensors below a layer's prefix."""
    return next((reader for reader in READERS if reader.claims(tensors)), None)


def check_class(tensors: Tensors, said: str) -> None:
    """Check that an upstream class, by its dotted name, is the one whose tensors these are.

    A version may stand before the name (``v3.0.0:``).

    Raises:
        S4EdgeError: it is another.
    """
    reader = find_reader(tensors)
    if reader is not None and said.rpartition(":")[2] not in reader.classes:
        raise S4EdgeError(
            f"{tensors.path}: its configuration says {said}, the tensors under "
            f"{tensors.prefix.rstrip('.') or 'the top'} are of {reader.name}"
        )


def read_layer(tensors: Tensors, facts: Facts, d_model: int) -> tuple[LayerReader, UpstreamLayer]:
    """Recognize and read one layer.

    Raises:
        S4EdgeError: no reader recognizes it, or its reader cannot read it.
    """
    reader = find_reader(tensors)
    if reader is None:
        raise S4EdgeError(
            f"{tensors.path}: the layer under {tensors.prefix.rstrip('.') or 'the top'} is of no "
            "known kind; known: " + ", ".join(reader.name for reader in READERS)
        )
    # What overflows is refused when the systems are built.
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return reader, _bounded(reader.read(tensors, facts, d_model), facts)


def _bounded(layer: UpstreamLayer, facts: Facts) -> UpstreamLayer:
    """With growing modes a layer is good for one length, unless its kernels are cut anyway."""
    both = [layer.modes] if layer.backward is None else [layer.modes, layer.backward]
    if all(modes.is_stable.all() for modes in both):
        return layer
    if layer.length is not None or layer.kernel_length is not None:
        return layer
    largest = max(float(np.exp(modes.log_pole.real.max(initial=-np.inf))) for modes in both)
    length = known_length(
        facts,
        f"its kernels hold modes with |a| >= 1 (up to {largest:.6g}), which mean something up to "
        "the length of the sequences only",
    )
    note = (
        f"holds modes with |a| >= 1 (up to {largest:.6g}): exact for sequences of {length} samples"
    )
    return dataclasses.replace(layer, length=length, notes=(*layer.notes, note))
