"""A bare layer as a model: the layer alone, no encoder, norm, residual, pooling or decoder."""

from __future__ import annotations

from s4edge.checkpoints import damped_averages
from s4edge.checkpoints.assemble import Piece, assemble, provenance
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.layer_readers import find_reader, read_layer
from s4edge.checkpoints.stored_kernels import refuse_bottleneck
from s4edge.checkpoints.tensors import Tensors
from s4edge.model.activations import output_width
from s4edge.model.configuration import ModelConfig
from s4edge.model.sequence_model import SequenceModel


def claims(tensors: Tensors) -> bool:
    """Whether a state dict is of one layer."""
    return find_reader(tensors) is not None


def read(tensors: Tensors, facts: Facts) -> SequenceModel:
    """Read a layer; ``facts.saved`` are its constructor's arguments.

    It takes (batch, d_model, length), or (batch, length, d_model) with ``transposed`` false.

    Raises:
        S4EdgeError: a tensor is missing, left over or wrong, or a fact is missing.
    """
    # With one, D says how wide it is inside.
    refuse_bottleneck(tensors, facts)
    d_model = facts.infer("d_model", _features(tensors))
    reader, layer = read_layer(tensors, facts, d_model)
    transposed = reader.channels_first
    if transposed is None:
        transposed = facts.inferred.get("transposed")
    if transposed is None:
        transposed = facts.get("transposed", True, allowed=(True, False))
    width = len(layer.D) // (1 if layer.hyper is None else 2)
    width = output_width(layer.activation, width)
    if layer.mixing_bias is not None:
        width = output_width(layer.final_activation, len(layer.mixing_bias))
    config = ModelConfig(
        d_input=d_model, d_output=width, d_model=d_model, encoder="none", blocks=(),
        pooling="none", decoder="none", length=None, channels_first=transposed,
    )  # fmt: skip
    pieces = [Piece("layer", layer)]
    model = assemble(tensors, config, pieces)
    tensors.finish()
    facts.finish()
    model.provenance = provenance(f"bare layer, {reader.name}", tensors, facts, pieces)
    return model.eval()


def _features(tensors: Tensors) -> int:
    """Most layouts have ``D`` with the features as its last axis, here or in a layer within."""
    averaged = damped_averages.features(tensors)
    if averaged is not None:
        return averaged
    return tensors.shape("D" if "D" in tensors else "layer.D")[-1]
