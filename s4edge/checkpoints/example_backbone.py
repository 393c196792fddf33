"""Whole models of upstream's ``example.py``: encoder, residual blocks, mean pooling, decoder."""

from __future__ import annotations

from dataclasses import asdict

from s4edge.checkpoints.assemble import Piece, assemble, fill, provenance
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.layer_readers import check_class, read_layer
from s4edge.checkpoints.norms import NormReading
from s4edge.checkpoints.residuals import ResidualReading
from s4edge.checkpoints.tensors import Tensors
from s4edge.errors import S4EdgeError
from s4edge.model.configuration import ModelConfig, NormPlacement
from s4edge.model.sequence_model import SequenceModel

CLASS = "example.S4Model"
OPTIONS = frozenset(
    ("d_input", "d_output", "d_model", "n_layers", "dropout", "prenorm", "layer", "length")
)
"""Of its constructor; the others are of its layers."""


def claims(names: set[str]) -> bool:
    """Whether a state dict with these names is of this backbone."""
    return any(name.startswith("s4_layers.") for name in names)


def read(tensors: Tensors, facts: Facts) -> SequenceModel:
    """Read a whole model; ``facts`` are its constructor's arguments.

    Raises:
        S4EdgeError: a tensor is missing, left over or wrong, or a fact is missing.
    """
    layer_facts = _of_layer(tensors, facts)
    d_model, d_input = tensors.shape("encoder.weight", "d_model", "d_input")
    d_output = tensors.shape("decoder.weight", "d_output", "d_model")[0]
    for key, value in (("d_input", d_input), ("d_output", d_output), ("d_model", d_model)):
        facts.infer(key, value)
    facts.ignore("dropout")
    count = facts.infer("n_layers", tensors.count("s4_layers"))
    prenorm = facts.get("prenorm", False, allowed=(False, True))
    placement: NormPlacement = "pre" if prenorm else "post"
    pieces, names = [], set()
    for index in range(count):
        prefix = f"s4_layers.{index}"
        reader, layer = read_layer(tensors.under(f"{prefix}."), layer_facts, d_model)
        names.add(reader.name)
        norm = NormReading("layer", 1e-5, asdict(tensors.affine(f"norms.{index}.", d_model)))
        pieces.append(Piece(prefix, layer, norm, placement, ResidualReading((1.0, 1.0))))
    config = ModelConfig(
        d_input=d_input, d_output=d_output, d_model=d_model, encoder="linear", blocks=(),
        pooling="mean", decoder="linear", length=None,
    )  # fmt: skip
    model = assemble(tensors, config, pieces)
    fill(model.encoder, asdict(tensors.linear("encoder.", d_model, d_input)))
    fill(model.decoder, asdict(tensors.linear("decoder.", d_output, d_model)))
    tensors.finish()
    facts.finish()
    layout = f"example.py backbone, {' and '.join(sorted(names))}"
    model.provenance = provenance(layout, tensors, facts, pieces)
    return model.eval()


def _of_layer(tensors: Tensors, facts: Facts) -> Facts:
    """The facts of the layers; checks that their class is the one found."""
    if facts.says("layer"):
        check_class(tensors.under("s4_layers.0."), str(facts.get("layer")))
        facts.given.pop("layer")
    if not isinstance(facts.saved.get("layer_kwargs") or {}, dict):
        raise S4EdgeError(f"{tensors.path}: its configuration's layer_kwargs is no JSON object")
    length = {"length": facts.get("length")} if facts.says("length") else {}
    return facts.part("layer_kwargs", dotted=False).again(**length)
