"""Upstream's ``SequenceModel``, bare or between the encoder and decoder of its training module."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from s4edge.checkpoints import trainer
from s4edge.checkpoints.assemble import (
    Piece,
    assemble,
    feedforward,
    fill,
    parallel,
    provenance,
)
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.layer import ACTIVATION_NAMES, Layer
from s4edge.checkpoints.layers import read_layer
from s4edge.checkpoints.norms import read_norm
from s4edge.checkpoints.tensors import Tensors
from s4edge.errors import S4EdgeError
from s4edge.model.configuration import ModelConfig, NormPlacement, Pooling
from s4edge.model.sequence_model import SequenceModel

CLASSES = (
    "src.models.sequence.backbones.model.SequenceModel",
    "src.models.sequence.SequenceModel",
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
DECODER_MODES = ("last", "first", "pool", "sum", "ragged", "full")
_POOLINGS: dict[str, Pooling] = {"pool": "mean", "sum": "sum", "last": "last", "first": "first"}


def claims(names: set[str]) -> bool:
    """Whether a state dict with these names is of this backbone."""
    return any(name.removeprefix("model.").startswith("layers.0.layer.") for name in names)


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
    # The backbone's name for itself.
    facts.ignore("_name_", *_TRAINING_ONLY)
    options = facts.parts("layer", dotted=False)

    d_model = _features(backbone)
    facts.infer("d_model", d_model)
    length = outer.get("length") if outer.says("length") else None
    pieces, names = _blocks(backbone, facts, options, d_model, length)
    norm = read_norm(backbone.under("norm."), facts, d_model) if _prenorm(backbone) else None
    config = ModelConfig(
        d_input=d_model, d_output=d_model, d_model=d_model, encoder="none", blocks=(),
        pooling="none", decoder="none", length=None,
    )  # fmt: skip
    numbers: dict[str, Any] = {}
    if whole:
        config, numbers = _ends(tensors, outer, config)
    model = assemble(tensors, config, pieces, norm)
    for name, parameters in numbers.items():
        fill(model.get_submodule(name), parameters)
    tensors.finish()
    outer.finish()
    layout = f"SequenceModel{' with encoder and decoder' if whole else ''}, {' and '.join(names)}"
    model.provenance = provenance(layout, tensors, facts, pieces)
    return model.eval()


def _prenorm(backbone: Tensors) -> bool:
    return any(name.startswith("norm.") for name in backbone.names())


def _features(backbone: Tensors) -> int:
    first = backbone.under("layers.0.layer.")
    for name in ("D", "layer.D"):
        if name in first:
            return first.shape(name)[-1]
    return first.shape("ff.0.0.weight")[1]


def _blocks(
    backbone: Tensors, facts: Facts, options: list[Facts], d_model: int, length: Any
) -> tuple[list[Piece], list[str]]:
    count = backbone.count("layers")
    kinds = len(options)
    repeat = facts.whole("n_repeat", 1)
    if count % (repeat * kinds):
        raise S4EdgeError(
            f"{backbone.path}: it has {count} layers, which {kinds} kinds repeated {repeat} times "
            "do not divide"
        )
    facts.infer("n_layers", count // (repeat * kinds))
    placement = _placement(backbone, facts)
    stride = _stride(backbone, facts)
    both = facts.infer("bidirectional", any("reverse_layer" in name for name in backbone.names()))
    # The layers have a word of the same name, and of their own.
    del facts.inferred["bidirectional"]
    pieces: list[Piece] = []
    names: list[str] = []
    for index in range(count):
        prefix = f"layers.{index}."
        block, child = backbone.under(prefix), _of_layer(options[index % kinds], facts, length)
        name, layer, projection = _layer(block.under("layer."), child, d_model)
        if both:
            _, other, _ = _layer(block.under("reverse_layer."), child, d_model)
            layer = parallel(backbone, layer, other)
            projection = block.linear("bidirectional_linear.", d_model, 2 * d_model)
        if name not in names:
            names.append(name)
        pieces.append(
            Piece(
                name=backbone.prefix + prefix.rstrip("."),
                layer=layer,
                norm=read_norm(block.under("norm."), facts, d_model),
                placement=placement,
                residual=_residual(backbone, facts, index + 1),
                projection=projection,
                stride=stride if (index + 1) % repeat == 0 else 1,
            )
        )
    return pieces, names


def _of_layer(options: Facts, facts: Facts, length: Any) -> Facts:
    """The facts of one layer; what the backbone gives to each or the training needs is no news."""
    layer = options.again(**({} if length is None else {"length": length}))
    if layer.says("_name_"):
        facts.given["layer"] = layer.get("_name_")
    layer.ignore("_name_", "transposed", "dropout")
    return layer


def _layer(tensors: Tensors, facts: Facts, d_model: int) -> tuple[str, Layer, Any]:
    """A layer, and the linear layer behind it where it is a feed-forward one."""
    if "ff.0.0.weight" in tensors:
        facts.ignore("expand", "d_output", "initializer", "tie_dropout")
        name = facts.get("activation", "gelu", allowed=tuple(ACTIVATION_NAMES))
        first = tensors.linear("ff.0.0.", None, d_model)
        second = tensors.linear("ff.2.", d_model, first.weight.shape[0])
        layer = feedforward(first, ACTIVATION_NAMES[name], d_model)
        return "feed-forward", layer, second
    reader, layer = read_layer(tensors, facts, d_model)
    return reader.name, layer, None


def _placement(backbone: Tensors, facts: Facts) -> NormPlacement:
    """Pre-norm models have one more norm at the end; without its tensors it must be said."""
    if _prenorm(backbone):
        facts.infer("prenorm", True)
        return "pre"
    if any(".norm." in name for name in backbone.names()):
        facts.infer("prenorm", False)
        return "post"
    return "pre" if facts.get("prenorm", True, allowed=(True, False)) else "post"


def _stride(backbone: Tensors, facts: Facts) -> int:
    pool = facts.part("pool")
    word = pool.word(None)
    if word is None:
        return 1
    expand = pool.only("expand", None, 1)
    stride = pool.whole("pool" if pool.says("pool") else "stride", 1)
    if word not in ("pool", "avg", "sample") or (stride != 1 and word == "sample"):
        raise S4EdgeError(
            f"{backbone.path}: pool={word} (stride {stride}, expand {expand}) cannot be read; "
            "supported: average pooling ('pool', 'avg') without expansion"
        )
    return stride


def _residual(backbone: Tensors, facts: Facts, number: int) -> tuple[float, float] | None:
    residual = facts.part("residual")
    kind = residual.word(why=(
        "whether and how the blocks' inputs are added cannot be told from tensors"
    ))  # fmt: skip
    if kind in (None, "F", "N", "none", "ff", "feedforward"):
        return None
    if kind in ("R", "residual"):
        return residual.number("alpha", 1.0), residual.number("beta", 1.0)
    if kind in ("D", "decay"):
        beta = number ** -float(residual.number("power", 0.5))
        return (1 - beta**2) ** 0.5 if residual.get("l2", True) else 1 - beta, beta
    raise S4EdgeError(
        f"{backbone.path}: residual={kind} cannot be read; supported: R, D, F or none"
    )


def _ends(
    tensors: Tensors, facts: Facts, config: ModelConfig
) -> tuple[ModelConfig, dict[str, Any]]:
    """Encoder and decoder of the training module, and the pooling that the decoder does."""
    facts.ignore("d_input", "d_output", "d_model")
    numbers: dict[str, Any] = {}
    encoder = facts.part("encoder")
    if "encoder.0.weight" in tensors and "encoder.0.bias" in tensors:
        linear = tensors.linear("encoder.0.", config.d_model, None)
        encoder.ignore("_name_")
        facts.inferred["encoder"] = "linear"
        config = replace(config, encoder="linear", d_input=linear.weight.shape[1])
        numbers["encoder"] = asdict(linear)
    elif "encoder.0.weight" in tensors:
        table = tensors.take(
            "encoder.0.weight",
            tensors.shape("encoder.0.weight", "tokens", "d_model")[0],
            config.d_model,
        )
        encoder.ignore("_name_")
        facts.inferred["encoder"] = "embedding"
        config = replace(config, encoder="embedding", d_input=table.shape[0])
        numbers["encoder"] = {"weight": table}
    elif encoder.said and encoder.word() not in (None, "id", "none"):
        raise S4EdgeError(f"{tensors.path}: encoder={encoder.word()} cannot be read")
    facts.keep_apart("mode", decoder=DECODER_MODES)
    decoder = facts.part("decoder", plain=("mode", "l_output"))
    if decoder.said and decoder.word("sequence") not in (None, "sequence"):
        raise S4EdgeError(f"{tensors.path}: decoder={decoder.word()} cannot be read")
    decoder.ignore("use_lengths")
    mode = _mode(decoder)
    whose = decoder if decoder.says("l_output") else facts
    l_output = whose.get("l_output", 0, allowed=(0, 1, None))
    facts.ignore("l_output")
    decoder.ignore("l_output")
    if l_output is None and mode in ("pool", "sum"):
        raise S4EdgeError(
            f"{tensors.path}: a decoder with mode={mode} and an output per sample (l_output=null) "
            "gives running means or sums, which cannot be read"
        )
    pooling: Pooling = "none" if l_output is None else _POOLINGS[mode]
    config = replace(config, pooling=pooling)
    if "decoder.0.output_transform.weight" in tensors:
        linear = tensors.linear("decoder.0.output_transform.", None, config.d_model)
        config = replace(config, decoder="linear", d_output=linear.weight.shape[0])
        numbers["decoder"] = asdict(linear)
    return config, numbers


def _mode(decoder: Facts) -> str:
    """How the decoder pools; upstream's default where it was configured without."""
    if decoder.said and decoder.saved and not decoder.says("mode"):
        decoder.ignore("mode")
        return "last"
    mode: str = decoder.get(
        "mode", allowed=tuple(_POOLINGS), why="how the decoder pools over time is unknown"
    )
    return mode
