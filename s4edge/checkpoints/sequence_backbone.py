"""Upstream's ``SequenceModel``, bare or between the encoder and decoder of its training module."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from s4edge.checkpoints.assemble import (
    NormReading,
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
_TRAINING_ONLY = ("dropout", "tie_dropout", "track_norms", "dropinp", "transposed", "d_model")
_POOLINGS: dict[str, Pooling] = {"pool": "mean", "sum": "sum", "last": "last", "first": "first"}


def claims(names: set[str]) -> bool:
    """Whether a state dict with these names is of this backbone."""
    return any(name.removeprefix("model.").startswith("layers.0.layer.") for name in names)


def read(tensors: Tensors, facts: Facts) -> SequenceModel:
    """Read a backbone, or a whole model as upstream's Lightning module saves it.

    ``facts.saved`` is the backbone's configuration, or one with it under ``model`` beside
    ``encoder`` and ``decoder``.

    Raises:
        S4EdgeError: a tensor is missing, left over or wrong, or a fact is missing.
    """
    outer = facts
    whole = any(name.startswith("model.layers.") for name in tensors.names())
    if whole:
        saved = facts.saved.pop("model", None)
        facts = outer.within(dict(saved) if isinstance(saved, dict) else {})
    backbone = tensors.under("model.") if whole else tensors
    layer_options = facts.saved.pop("layer", None)
    # The backbone's name for itself.
    facts.saved.pop("_name_", None)
    options = layer_options if isinstance(layer_options, list) else [layer_options or {}]
    facts.ignore(*_TRAINING_ONLY)

    d_model = _features(backbone)
    facts.infer("d_model", d_model)
    layer_facts = [facts.within(_layer_options(facts, each)) for each in options]
    pieces, names = _blocks(backbone, facts, layer_facts, d_model)
    norm = _read_norm(backbone.under("norm."), facts, d_model) if _prenorm(backbone) else None
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
    # Only now: what is not heard by one part may be by another.
    for each in (*layer_facts, facts, outer):
        each.finish()
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
    backbone: Tensors, facts: Facts, layer_facts: list[Facts], d_model: int
) -> tuple[list[Piece], list[str]]:
    count = backbone.count("layers")
    kinds = len(layer_facts)
    repeat = int(facts.get("n_repeat", 1))
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
        block, child = backbone.under(prefix), layer_facts[index % kinds]
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
                norm=_read_norm(block.under("norm."), facts, d_model),
                placement=placement,
                residual=_residual(backbone, facts, index + 1),
                projection=projection,
                stride=stride if (index + 1) % repeat == 0 else 1,
            )
        )
    return pieces, names


def _layer_options(facts: Facts, options: dict[str, Any]) -> dict[str, Any]:
    """A layer's configuration without what the backbone or the training gives it."""
    options = dict(options)
    name = options.pop("_name_", None)
    if name is not None:
        facts.given["layer"] = name
    for key in ("transposed", "dropout"):
        options.pop(key, None)
    return options


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
    pool = facts.get("pool", None)
    if pool is None:
        return 1
    known = isinstance(pool, dict) and pool.get("_name_") == "pool" and pool.get("expand") is None
    if not known:
        raise S4EdgeError(
            f"{backbone.path}: pool={pool} cannot be read; supported: average pooling ('pool') "
            "without expansion"
        )
    return int(pool.get("stride", 1))


def _residual(backbone: Tensors, facts: Facts, number: int) -> tuple[float, float] | None:
    residual = facts.get(
        "residual", why="whether and how the blocks' inputs are added cannot be told from tensors",
        allowed=None,
    )  # fmt: skip
    options = {} if residual is None or isinstance(residual, str) else dict(residual)
    kind = options.pop("_name_", residual)
    if kind in (None, "F", "N", "none", "ff", "feedforward"):
        return None
    if kind in ("R", "residual"):
        return float(options.get("alpha", 1.0)), float(options.get("beta", 1.0))
    if kind in ("D", "decay"):
        beta = number ** -float(options.get("power", 0.5))
        return (1 - beta**2) ** 0.5 if options.get("l2", True) else 1 - beta, beta
    raise S4EdgeError(
        f"{backbone.path}: residual={residual} cannot be read; supported: R, D, F or none"
    )


def _read_norm(tensors: Tensors, facts: Facts, d_model: int) -> NormReading:
    """A norm by its tensors; one without tensors must be said to be none or an instance norm."""
    facts.ignore("norm")
    if "norm.m" in tensors:
        facts.inferred["norm"] = "layer, one scale for all features"
        parameters = {"scale": tensors.take("norm.s", 1), "shift": tensors.take("norm.m", 1)}
        return NormReading("standardize", 0.0, parameters)
    if "norm.running_mean" in tensors:
        facts.inferred["norm"] = "batch, folded into a scale and shift"
        return _folded_batch_norm(tensors, d_model)
    if "norm.ln.weight" in tensors:
        facts.inferred["norm"] = "layer"
        return NormReading("layer", 1e-5, asdict(tensors.affine("norm.ln.", d_model)))
    affine = "norm.weight" in tensors
    said = facts.get("norm", "layer" if affine else None)
    kind = said.get("_name_", "layer") if isinstance(said, dict) else said
    if affine and kind in ("group", "instance", "layer"):
        return NormReading(kind, 1e-5, asdict(tensors.affine("norm.", d_model)))
    if not affine and kind in (None, "none"):
        return NormReading()
    if not affine and kind == "instance":
        return NormReading("instance", 1e-5, {})
    raise S4EdgeError(
        f"{tensors.path}: norm={said} does not fit the tensors under {tensors.prefix}; "
        "supported: layer, batch, instance, group, none"
    )


def _folded_batch_norm(tensors: Tensors, d_model: int) -> NormReading:
    """Running statistics, and weight and bias if there are any, as one scale and shift."""
    tensors.take_count("norm.num_batches_tracked")
    mean = tensors.take("norm.running_mean", d_model)
    deviation = np.sqrt(tensors.take("norm.running_var", d_model) + 1e-5)
    weight, bias = np.ones(d_model), np.zeros(d_model)
    if "norm.weight" in tensors:
        weight, bias = (tensors.take(f"norm.{name}", d_model) for name in ("weight", "bias"))
    scale = weight / deviation
    return NormReading("affine", 0.0, {"weight": scale, "bias": bias - mean * scale})


def _ends(
    tensors: Tensors, facts: Facts, config: ModelConfig
) -> tuple[ModelConfig, dict[str, Any]]:
    """Encoder and decoder of the training module, and the pooling that the decoder does."""
    facts.ignore("d_input", "d_output", "d_model")
    numbers: dict[str, Any] = {}
    encoder = facts.saved.pop("encoder", None)
    if "encoder.0.weight" in tensors and "encoder.0.bias" in tensors:
        linear = tensors.linear("encoder.0.", config.d_model, None)
        facts.infer("encoder", "linear")
        config = replace(config, encoder="linear", d_input=linear.weight.shape[1])
        numbers["encoder"] = asdict(linear)
    elif "encoder.0.weight" in tensors:
        table = tensors.take(
            "encoder.0.weight",
            tensors.shape("encoder.0.weight", "tokens", "d_model")[0],
            config.d_model,
        )
        facts.infer("encoder", "embedding")
        config = replace(config, encoder="embedding", d_input=table.shape[0])
        numbers["encoder"] = {"weight": table}
    elif encoder not in (None, "id", "none"):
        raise S4EdgeError(f"{tensors.path}: encoder={encoder} cannot be read")
    decoder = facts.saved.pop("decoder", None) or {}
    decoder = decoder if isinstance(decoder, dict) else {"_name_": decoder}
    if decoder.get("_name_", "sequence") != "sequence":
        raise S4EdgeError(f"{tensors.path}: decoder={decoder['_name_']} cannot be read")
    mode = decoder.get("mode") or facts.get(
        "mode", allowed=tuple(_POOLINGS), why="how the decoder pools over time is unknown"
    )
    if mode not in _POOLINGS:
        raise S4EdgeError(f"{tensors.path}: decoder mode={mode} cannot be read")
    if "l_output" in decoder:
        facts.saved["l_output"] = decoder["l_output"]
    l_output = facts.get("l_output", 0, allowed=(0, 1, None))
    if l_output is None and mode in ("pool", "sum"):
        raise S4EdgeError(
            f"{tensors.path}: a decoder with mode={mode} and an output per sample (l_output=null) "
            "gives running means or sums, which cannot be read"
        )
    pooling: Pooling = "none" if l_output is None else _POOLINGS[mode]
    facts.given["decoder mode"] = mode
    config = replace(config, pooling=pooling)
    if "decoder.0.output_transform.weight" in tensors:
        linear = tensors.linear("decoder.0.output_transform.", None, config.d_model)
        config = replace(config, decoder="linear", d_output=linear.weight.shape[0])
        numbers["decoder"] = asdict(linear)
    return config, numbers
