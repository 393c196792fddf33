"""Upstream's ``SequenceModel``, bare or between the encoder and decoder of its training module.

The backbones of versions 2 (and DSS's copy of it), 3 and 4 write the same tensors. They differ in
what no residual means (`s4edge.checkpoints.residuals`), in their poolings
(`s4edge.checkpoints.pools`), and in what they have: only version 4 has ``bidirectional``, version 2
has no ``n_repeat`` and no group norm.
"""

from __future__ import annotations

import re

from s4edge.checkpoints import linear, trainer
from s4edge.checkpoints.assemble import Piece, assemble, fill, provenance
from s4edge.checkpoints.backbone_layers import check_kinds, join, read_backbone_layer
from s4edge.checkpoints.discretize import whole_number
from s4edge.checkpoints.ends import MODES, Ends, read_ends
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.layer_readers import find_reader
from s4edge.checkpoints.norms import read_norm
from s4edge.checkpoints.pools import PoolReading, has_weight, read_pool
from s4edge.checkpoints.residuals import read_residual
from s4edge.checkpoints.tensors import MOST_PARTS, Tensors
from s4edge.errors import S4EdgeError
from s4edge.model.configuration import ModelConfig, NormPlacement
from s4edge.model.sequence_model import SequenceModel

CLASSES = (
    "src.models.sequence.backbones.model.SequenceModel",
    "src.models.sequence.SequenceModel",
    "src.models.sequence.model.SequenceModel",
    "train.SequenceLightningModule(encoder, model, decoder)",
    "train.SequenceLightningModule",
)
OPTIONS = frozenset(
    (
        "_name_", "d_model", "n_layers", "transposed", "dropout", "tie_dropout", "prenorm",
        "bidirectional", "n_repeat", "residual", "norm", "pool", "track_norms", "dropinp",
        "drop_path", "length",
    )
)  # fmt: skip
"""Of its constructor, but for ``layer``."""
# Version 2 has "init" and "verbose" too; what is transposed only changes the order of axes.
_TRAINING_ONLY = (
    "dropout", "tie_dropout", "track_norms", "dropinp", "transposed", "d_model", "init", "verbose",
)  # fmt: skip
_BLOCK = re.compile(
    r"(model\.)?layers\.\d+\.(layer|norm|pool|residual|reverse_layer|bidirectional_linear)\."
)
# Readers of layers that only this version has.
_VERSION_2 = ("S4 of version 2", "DSS")
_VERSION_2_AND_LATER = ("S4 of version 3", "S4Block", "minimal S4D")


def claims(names: set[str]) -> bool:
    """Whether a state dict with these names is of this backbone."""
    return any(_BLOCK.match(name) for name in names)


def read(tensors: Tensors, facts: Facts) -> SequenceModel:
    """Read a backbone, or a whole model as upstream's Lightning module saves it.

    ``facts`` are of the backbone's configuration, or of one with it under ``model`` beside
    ``encoder`` and ``decoder``.

    Raises:
        S4EdgeError: a tensor is missing, left over or wrong, or a fact is missing.
    """
    outer = facts
    whole = any(name.startswith("model.layers.") for name in tensors.names())
    backbone = tensors.under("model.") if whole else tensors
    if trainer.is_trainers(facts):
        trainer.look_beside_the_model(facts)
        facts = outer.part("model", dotted=False)
    if whole:
        outer.keep_apart("mode", decoder=MODES)
    # The backbone's name for itself.
    facts.ignore("_name_", *_TRAINING_ONLY)
    d_model = _features(backbone, facts)
    facts.infer("d_model", d_model)
    length = outer.get("length") if outer.says("length") else None
    length = None if length is None else whole_number(outer, "length", length)
    pieces, names = _blocks(backbone, facts, d_model, length)
    if length is not None:
        outer.given["length"] = length
    features = _features_out(pieces, d_model)
    norm = None
    if pieces[-1].placement == "pre":
        # Pre-norm models have one more at the end, with or without tensors.
        norm = read_norm(backbone.under("norm."), facts, features)
    config = ModelConfig(
        d_input=d_model, d_output=features, d_model=d_model, encoder="none", blocks=(),
        pooling="none", decoder="none", length=None,
    )  # fmt: skip
    samples = length
    for piece in pieces:
        samples = None if samples is None else _samples_out(piece, samples)
    ends = read_ends(tensors, outer, facts, config, samples) if whole else Ends(config)
    model = assemble(tensors, ends.config, pieces, norm, length)
    for name, parameters in ends.parameters.items():
        fill(model.get_submodule(name), parameters, f"{tensors.path}: its {name}.")
    tensors.finish()
    outer.finish()
    layout = f"SequenceModel{' with encoder and decoder' if whole else ''}, {' and '.join(names)}"
    model.provenance = provenance(layout, tensors, facts, pieces)
    model.provenance.notes += ends.notes
    if model.config.looks_across_the_batch:
        model.provenance.notes.append(
            "its batch norms keep no statistics: they take those of the sequences that come "
            "together, so that an answer depends on the batch"
        )
    return model.eval()


def _features(backbone: Tensors, facts: Facts) -> int:
    """Told by the first layer, by a norm, or else by the configuration."""
    told = _told_features(backbone.under("layers.0."))
    if told is not None:
        return told
    width = facts.get("d_model", why="no tensor of its first block tells how wide it is")
    if isinstance(width, bool) or not isinstance(width, int) or not 1 <= width < 2**31:
        raise S4EdgeError(f"{backbone.path}: d_model={width} cannot be read; it is a whole number")
    return width


def _told_features(block: Tensors) -> int | None:
    """How wide the input of a block is, if one of its tensors tells."""
    layer = block.under("layer.")
    # Before a bottleneck, whose width D has.
    prefix = linear.find(layer, "input_linear.", "input_linear.0.")
    if prefix is not None:
        return linear.size(layer, prefix)[1]
    for name in ("D", "layer.D"):
        if name in layer:
            return layer.shape(name)[-1]
    for name in ("ff.0.0.weight", "ff.0.weight"):
        if name in layer:
            return layer.shape(name)[1]
    norm = block.under("norm.norm.")
    for name in ("weight", "running_mean", "ln.weight"):
        if name in norm:
            return norm.shape(name)[0]
    return None


def _features_out(pieces: list[Piece], features: int) -> int:
    """Features that leave the last block."""
    for piece in pieces:
        features = piece.d_output or features
        stacked = piece.pool.stride if piece.pool.downsampling == "stack" else 1
        widening = piece.pool.widening
        features *= stacked * piece.pool.repeat
        features = features if widening is None else len(widening.bias)
    return features


def _blocks(
    backbone: Tensors, facts: Facts, d_model: int, length: int | None
) -> tuple[list[Piece], list[str]]:
    options = facts.parts("layer", dotted=False)
    check_kinds(backbone, options)
    repeat = _repeat(backbone, facts)
    count = _count(backbone, facts, len(options) * repeat)
    drops_output = _drops_output(backbone, facts, count)
    placement = _placement(backbone, facts)
    both = any("reverse_layer." in name or "bidirectional_" in name for name in backbone.names())
    if facts.says("bidirectional"):
        facts.infer("bidirectional", both)
    # The layers have a word of the same name, and of their own.
    facts.inferred.pop("bidirectional", None)
    facts.ignore("bidirectional")
    pieces: list[Piece] = []
    names: list[str] = []
    features = d_model
    for index in range(count):
        prefix = f"layers.{index}."
        block, own = backbone.under(prefix), options[index % len(options)]
        norm_before = placement == "pre"
        norm = read_norm(block.under("norm."), facts, features) if norm_before else None
        layer = read_backbone_layer(block.under("layer."), own, features, length)
        if both:
            other = read_backbone_layer(block.under("reverse_layer."), own, features, length)
            layer = join(block, layer, other)
        if layer.name not in names:
            names.append(layer.name)
        leaves = layer.d_output or features
        ends_stage = (index + 1) % repeat == 0
        pool = read_pool(block, facts, leaves) if ends_stage else PoolReading()
        piece = Piece(
            name=backbone.prefix + prefix.rstrip("."),
            layer=layer.layer,
            norm=norm or read_norm(block.under("norm."), facts, leaves),
            placement=placement,
            residual=read_residual(block, facts, index + 1, leaves, drops_output),
            projection=layer.projection,
            d_output=layer.d_output,
            pool=pool,
        )
        if piece.residual.weights not in (None, (0.0, 1.0)) and leaves != features:
            raise S4EdgeError(
                f"{backbone.path}: {piece.name} gives {leaves} features and takes {features}, "
                "which no residual can add"
            )
        pieces.append(piece)
        features = _features_out([piece], features)
        length = None if length is None else _samples_out(piece, length)
        if not facts.part("pool").said:
            _check_following(backbone, index + 1, features)
    pooled = count > 1 and any(piece.pool.acts for piece in pieces)
    told = "n_repeat" in facts.inferred or facts.says("n_repeat") or facts.leaves_out("n_repeat")
    if pooled and not told:
        # Of every block, or of some: no tensor tells.
        facts.assumed["n_repeat"] = 1
    return pieces, names


def _check_following(backbone: Tensors, index: int, features: int) -> None:
    """Ask for a pooling of which only the width of the next block, or of the last norm, tells.

    Raises:
        S4EdgeError: it takes more features than come.
    """
    following, name = backbone.under(f"layers.{index}."), f"layers.{index}"
    if not following.names():
        following, name = backbone, "norm"
    taken = _told_features(following)
    if taken is not None and taken != features and taken % features == 0:
        raise S4EdgeError(
            f"{backbone.path}: {backbone.prefix}{name} takes {taken} features where "
            f"{features} come: what a pooling does to samples before it is unknown; say it with "
            f'--set pool=VALUE, such as {{"_name_": "sample", "stride": 1, "expand": '
            f"{taken // features}}}"
        )


def _repeat(backbone: Tensors, facts: Facts) -> int:
    """``n_repeat``, behind how many blocks there is a pooling; a trained one tells it."""
    trained = [
        index
        for index in range(backbone.count("layers"))
        if has_weight(backbone.under(f"layers.{index}."))
    ]
    if not trained:
        return facts.whole("n_repeat", 1)
    repeat: int = facts.infer("n_repeat", trained[0] + 1)
    return repeat


def _samples_out(piece: Piece, samples: int) -> int:
    if piece.pool.downsampling == "sample":
        return -(-samples // piece.pool.stride)
    return samples // piece.pool.stride


def _count(backbone: Tensors, facts: Facts, kinds: int) -> int:
    """The number of blocks; those at the end may have no tensors."""
    count = backbone.count("layers")
    said = facts.get("n_layers") if facts.says("n_layers") else None
    if isinstance(said, int) and not isinstance(said, bool) and count < said * kinds < MOST_PARTS:
        count = said * kinds
    if count % kinds:
        raise S4EdgeError(
            f"{backbone.path}: it has {count} layers, which {kinds} kinds and repetitions do not "
            "divide"
        )
    facts.infer("n_layers", count // kinds)
    return count


def _drops_output(backbone: Tensors, facts: Facts, count: int) -> bool:
    """Whether no residual means that the layer's output is dropped: in version 2 and DSS's copy.

    The version is told by the layers. Where it is not, and matters, it is asked for.
    """
    facts.ignore("upstream")
    if facts.says("upstream"):
        said = facts.get("upstream", allowed=("v2", "v3", "v4", "dss"))
        return said in ("v2", "dss")
    for index in range(count):
        layer = backbone.under(f"layers.{index}.layer.")
        reader = find_reader(layer)
        if reader is not None and reader.name in (*_VERSION_2, *_VERSION_2_AND_LATER):
            return reader.name in _VERSION_2
        for name in ("ff.0.0.bias", "ff.0.bias"):
            if name in layer and len(layer.shape(name)) == 2:
                return True
    residual = facts.part("residual")
    none = facts.leaves_out("residual") or (residual.said and not residual.saved)
    if none:
        return facts.get(
            "upstream",
            allowed=("v2", "v3", "v4", "dss"),
            why="without a residual version 2 (and DSS's copy) drops the output of layers, later "
            "ones keep it, and no layer tells the version",
        ) in ("v2", "dss")
    return False


def _placement(backbone: Tensors, facts: Facts) -> NormPlacement:
    """Pre-norm models have one more norm at the end; without its tensors it must be said."""
    if any(name.startswith("norm.") for name in backbone.names()):
        facts.infer("prenorm", True)
        return "pre"
    if any(re.match(r"layers\.\d+\.norm\.", name) for name in backbone.names()):
        facts.infer("prenorm", False)
        return "post"
    return "pre" if facts.get("prenorm", True, allowed=(True, False)) else "post"
