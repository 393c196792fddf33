"""What upstream's trainer puts before and behind a backbone: encoders, decoders, the task's own.

Its encoder is a sequence of modules (the task's, the pipeline's, the model's), its decoder too (the
model's, the pipeline's, the task's). Those with tensors are found by their order, the others by
their words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from s4edge.arrays import Float
from s4edge.checkpoints import trainer
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.tensors import Linear, Tensors
from s4edge.errors import S4EdgeError
from s4edge.model.configuration import HeadConfig, ModelConfig, Pooling

# How decoders pool, "full" being the word of NDDecoder for not at all.
MODES = ("last", "first", "pool", "sum", "ragged", "full")
_POOLINGS: dict[str, Pooling] = {"pool": "mean", "sum": "sum", "last": "last", "first": "first"}
_NOTHING = (None, "id", "none", "stop")
_WHY_NOT = {
    "position": "it adds a code of the position in the sequence, which no stationary model has",
    "conv1d": "it is a convolution",
    "patch2d": "it is a convolution over images",
    "patch3d": "it is a convolution over videos",
    "class": "it takes a class beside the samples",
    "time": "it takes time stamps beside the samples",
    "timestamp_embedding": "it takes time stamps beside the samples",
    "tsindex_embedding": "it takes the number of the series beside the samples",
    "eegage": "it takes an age beside the samples",
    "textcond": "it takes a text beside the samples",
    "pack": "it packs sequences of several lengths",
    "state": "it decodes the last state, not the output",
    "layer": "it is a layer of its own",
}


@dataclass(frozen=True)
class Ends:
    """A configuration with its ends, and their parameters.

    Attributes:
        config: with encoder, pooling, decoder and head.
        parameters: of modules of the model, by the module's name.
        notes: what a person should know.
    """

    config: ModelConfig
    parameters: Mapping[str, Mapping[str, Float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Decoding:
    """What decoders do one after another, behind so many features."""

    features: int
    pooling: Pooling = "none"
    answers: int | None = 0
    linear: Linear | None = None
    head: HeadConfig | None = None
    layers: tuple[Linear, ...] = ()
    notes: tuple[str, ...] = ()


def read_ends(
    tensors: Tensors,
    outer: Facts,
    backbone: Facts,
    config: ModelConfig,
    samples: int | None = None,
) -> Ends:
    """Encoders and decoders around a backbone.

    Args:
        tensors: of the whole.
        outer: facts of the whole.
        backbone: facts of the model, which may have ends of its own.
        config: of the backbone alone; the features that enter and leave it are taken from it.
        samples: that leave the backbone, where it is known.

    Raises:
        S4EdgeError: one of them cannot be read, or a fact is missing.
    """
    outer.ignore("d_input", "d_output", "d_model")
    if any(name.startswith(("loss.", "encoder.0.emb_")) for name in tensors.names()):
        raise S4EdgeError(
            f"{tensors.path}: the task's adaptive softmax (adaptivelm) cannot be read: its outputs "
            "are no scores of all tokens; save the model without loss.* and encoder.*"
        )
    scale, scores = trainer.read_task(outer)
    config, parameters = _encoder(tensors, outer, backbone, config, scale)
    decoding = _decoder(tensors, outer, backbone, config, scores, samples)
    config = replace(config, pooling=decoding.pooling, answers=decoding.answers, head=decoding.head)
    if decoding.linear is not None:
        config = replace(config, decoder="linear", d_output=len(decoding.linear.bias))
        parameters["decoder"] = asdict(decoding.linear)
    for index, layer in enumerate(decoding.layers):
        parameters[f"head.layers.{index}"] = asdict(layer)
    return Ends(config, parameters, decoding.notes)


def _prefixes(tensors: Tensors, name: str) -> list[str]:
    """Of the modules in a sequence that have tensors; version 2 does not number a single one."""
    below = [each.removeprefix(f"{name}.") for each in tensors.names() if each.startswith(name)]
    numbered = {int(found[1]) for each in below if (found := re.match(r"([0-9]{1,4})\.", each))}
    if below and not numbered:
        return [f"{name}."]
    return [f"{name}.{number}." for number in sorted(numbered)]


def _words(parts: list[Facts], default: str) -> list[tuple[Any, Facts]]:
    """What each part is, the empty ones left out; ``default`` where it has options and no name."""
    found = [(part.word(default) if part.said else None, part) for part in parts]
    return [(word, part) for word, part in found if word not in _NOTHING]


# Encoders


def _encoder(
    tensors: Tensors, outer: Facts, backbone: Facts, config: ModelConfig, scale: float | None
) -> tuple[ModelConfig, dict[str, Mapping[str, Float]]]:
    prefixes = _prefixes(tensors, "encoder")
    parts = [*outer.parts("encoder"), *([] if backbone is outer else backbone.parts("encoder"))]
    words = _words(parts, "linear")
    if scale is not None:
        # The task's embedding comes first.
        words = [("embedding", outer.part("task")), *words]
    # Without a configuration, what cannot be read is told by its tensors.
    for kind, mark in (("position", ".pe"), ("conv1d", ".conv.weight")):
        if any(name.startswith("encoder.") and name.endswith(mark) for name in tensors.names()):
            words.append((kind, outer))
    for word, _ in words:
        if word not in ("linear", "embedding", "onehot"):
            why = _WHY_NOT.get(word, "it is unknown here")
            raise S4EdgeError(f"{tensors.path}: encoder={word} cannot be read: {why}")
    if len(words) > 1 or len(prefixes) > 1:
        raise S4EdgeError(
            f"{tensors.path}: several encoders one after another ({len(words) or len(prefixes)}) "
            "cannot be read; one is"
        )
    word, part = words[0] if words else (None, None)
    if word == "onehot":
        table = np.eye(config.d_model)
        return replace(config, encoder="embedding", d_input=config.d_model), {
            "encoder": {"weight": table}
        }
    if not prefixes:
        if word is not None:
            raise S4EdgeError(f"{tensors.path} lacks the tensors encoder.* of encoder={word}")
        if not any(part.said for part in parts):
            outer.assumed["encoder"] = None
        return config, {}
    (prefix,) = prefixes
    rows, columns = tensors.shape(f"{prefix}weight", "rows", "columns")
    weight = tensors.take(f"{prefix}weight", rows, columns)
    found = "linear" if f"{prefix}bias" in tensors or word == "linear" else "embedding"
    if word not in (None, found):
        raise S4EdgeError(
            f"{tensors.path}: its configuration says encoder={word}, the tensors say {found}"
        )
    outer.inferred["encoder"] = found
    if found == "linear":
        if part is not None:
            part.ignore("bias")
        bias = tensors.take(f"{prefix}bias", rows) if f"{prefix}bias" in tensors else np.zeros(rows)
        _check_width(tensors, f"{prefix}weight", rows, config.d_model)
        return replace(config, encoder="linear", d_input=columns), {
            "encoder": {"weight": weight, "bias": bias}
        }
    if part is not None:
        part.only("max_norm", None)
        part.ignore("padding_idx", "sparse", "scale_grad_by_freq", "norm_type")
    _check_width(tensors, f"{prefix}weight", columns, config.d_model)
    return replace(config, encoder="embedding", d_input=rows), {
        "encoder": {"weight": weight * (scale or 1.0)}
    }


def _check_width(tensors: Tensors, name: str, found: int, expected: int) -> None:
    if found != expected:
        raise S4EdgeError(
            f"{tensors.path}: {name} gives or takes {found} features, the backbone has {expected}"
        )


# Decoders


def _decoder(
    tensors: Tensors,
    outer: Facts,
    backbone: Facts,
    config: ModelConfig,
    scores: bool,
    samples: int | None,
) -> _Decoding:
    plain = ("mode", "l_output")
    own = [] if backbone is outer else backbone.parts("decoder", plain=plain)
    parts = [*own, *outer.parts("decoder", plain=plain)]
    if outer.leaves_out("decoder") and not any(part.said for part in own) and not scores:
        # A configuration of the ends without this one leaves it open.
        words = [(_told_by_tensors(tensors, outer), outer.part("decoder", plain=plain))]
    elif not any(part.said for part in parts) and not scores:
        words = [(_told_by_tensors(tensors, outer), parts[-1])]
    else:
        words = _words(parts, "sequence")
    # The data set's, whether a decoder takes it or not.
    outer.ignore("l_output")
    prefixes = iter(_prefixes(tensors, "decoder"))
    decoding = _Decoding(features=config.d_output)
    for word, part in words:
        if decoding.pooling != "none" or decoding.head is not None:
            raise S4EdgeError(f"{tensors.path}: decoder={word} behind another cannot be read")
        decoding = _decoded(tensors, outer, part, str(word), prefixes, decoding, samples)
    if scores:
        decoding = _with_linear(tensors, next(prefixes, "decoder."), decoding)
    return decoding


def _told_by_tensors(tensors: Tensors, outer: Facts) -> str:
    """The decoder that has such tensors; else the one that pools is assumed."""
    names = [name for name in tensors.names() if name.startswith("decoder.")]
    if any(".retrieval.classifier." in name for name in names):
        outer.inferred["decoder"] = "retrieval"
        return "retrieval"
    if names and not any("output_transform." in name for name in names):
        outer.inferred["decoder"] = "linear"
        return "linear"
    outer.assumed["decoder"] = "sequence"
    return "sequence"


def _decoded(
    tensors: Tensors,
    outer: Facts,
    part: Facts,
    word: str,
    prefixes: Any,
    before: _Decoding,
    samples: int | None,
) -> _Decoding:
    """A decoder and those before it."""
    if word == "linear":
        return _with_linear(tensors, next(prefixes, "decoder."), before)
    if word == "nd":
        mode = part.get("mode", "pool", allowed=("pool", "full"))
        pooled: Pooling = "mean" if mode == "pool" else "none"
        return _with_transform(tensors, prefixes, replace(before, pooling=pooled))
    if word == "sequence":
        pooling, answers = _pooling(outer, part)
        if pooling == "mean" and answers not in (0, 1):
            before = _with_running_means(outer, before, answers, samples)
        return _with_transform(tensors, prefixes, replace(before, pooling=pooling, answers=answers))
    if word == "retrieval":
        return _retrieval(tensors, part, next(prefixes, "decoder."), before)
    why = _WHY_NOT.get(word, "it is unknown here")
    raise S4EdgeError(f"{tensors.path}: decoder={word} cannot be read: {why}")


def _with_running_means(
    outer: Facts, decoding: _Decoding, answers: int | None, samples: int | None
) -> _Decoding:
    """Several running means, which upstream's code gets right nowhere.

    Its division by the numbers of samples goes along features: it stops with an error unless there
    are as many answers as features, and then divides feature by feature.

    Raises:
        S4EdgeError: there are as many.
    """
    if (samples if answers is None else answers) == decoding.features:
        raise S4EdgeError(
            f"{outer.path}: a decoder that gives {decoding.features} running means of as many "
            "features (mode=pool) cannot be read: upstream's code divides feature by feature "
            "there, not sample by sample"
        )
    note = (
        "the decoder gives running means; upstream's own code stops with an error there, unless "
        f"there are {decoding.features} answers, which it divides feature by feature"
    )
    return replace(decoding, notes=(*decoding.notes, note))


def _pooling(outer: Facts, decoder: Facts) -> tuple[Pooling, int | None]:
    """How upstream's ``SequenceDecoder`` pools, and how many answers it gives."""
    # Sequences are given with their lengths or without.
    decoder.ignore("use_lengths")
    mode = _mode(decoder)
    answers = _answers(outer, decoder)
    if mode == "ragged":
        if answers == 0:
            raise S4EdgeError(
                f"{outer.path}: decoder.mode=ragged gives an answer to each sample and not one "
                "(l_output=0), which no model of upstream runs with; say --set l_output=null"
            )
        return "none", 0
    pooling = _POOLINGS[mode]
    if answers is None and pooling in ("first", "last"):
        return "none", 0
    return pooling, answers


def _mode(decoder: Facts) -> str:
    """How the decoder pools; upstream's default where it was configured without."""
    if decoder.leaves_out("mode"):
        decoder.ignore("mode")
        return "last"
    mode: str = decoder.get(
        "mode",
        allowed=(*_POOLINGS, "ragged"),
        why="how the decoder pools over time is unknown",
    )
    return mode


def _answers(outer: Facts, decoder: Facts) -> int | None:
    """``l_output``: the decoder's, the whole's, the data set's, else 0, which is assumed."""
    whose = decoder if decoder.says("l_output") else outer
    for each in (decoder, outer):
        each.ignore("l_output")
    if not whose.says("l_output"):
        known = trainer.answers_of_data(outer)
        if known is not None:
            outer.inferred["l_output"] = known[0]
            return known[0]
    value = whose.get("l_output", 0)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise S4EdgeError(
            f"{outer.path}: l_output={value} cannot be read; it is a whole number from 0 up, or "
            "null for an answer to each sample"
        )
    return value


def _with_transform(tensors: Tensors, prefixes: Any, decoding: _Decoding) -> _Decoding:
    """With the linear layer at a decoder's end, if it has one."""
    if not any(".output_transform." in f".{name}" for name in tensors.names()):
        return decoding
    return _with_linear(tensors, f"{next(prefixes, 'decoder.')}output_transform.", decoding)


def _with_linear(tensors: Tensors, prefix: str, decoding: _Decoding) -> _Decoding:
    """With a linear layer behind it; two in a row are one."""
    before = decoding.linear
    found = tensors.shape(f"{prefix}weight", "rows", "columns")[1]
    if found != decoding.features:
        raise S4EdgeError(
            f"{tensors.path}: {prefix}weight takes {found} features, the backbone gives "
            f"{decoding.features}; a pooling may change their number: say it with --set pool=VALUE"
        )
    behind = tensors.linear(prefix, None, None)
    decoding = replace(decoding, features=len(behind.bias))
    if before is None:
        return replace(decoding, linear=behind)
    weight = behind.weight @ before.weight
    return replace(decoding, linear=Linear(weight, behind.weight @ before.bias + behind.bias))


def _retrieval(tensors: Tensors, decoder: Facts, prefix: str, before: _Decoding) -> _Decoding:
    """Pooled features of each document, and the head that compares two of them."""
    # Widths are told by the tensors, and two documents are padded or not.
    decoder.ignore("use_lengths", "d_model")
    pooling = _POOLINGS[_mode(decoder)]
    classifier = tensors.under(f"{prefix}retrieval.classifier.")
    features = before.features
    indices = range(0, 2 * tensors.count(f"{prefix}retrieval.classifier"), 2)
    layers = [
        classifier.linear(f"{index}.", None, None)
        for index in indices
        if f"{index}.weight" in classifier
    ]
    columns = layers[0].weight.shape[1] if layers else 0
    contrasts = columns == 4 * features
    if columns not in (2 * features, 4 * features):
        raise S4EdgeError(
            f"{tensors.path}: {prefix}retrieval.classifier.0.weight takes {columns} features, "
            f"expected 2 or 4 times the backbone's {features}"
        )
    decoder.infer("nli", contrasts)
    activation = decoder.get("activation", "relu", allowed=("relu", "gelu"))
    widths = tuple(len(layer.bias) for layer in layers)
    head = HeadConfig(widths[:-1], activation, widths[-1], contrasts)
    return replace(before, pooling=pooling, head=head, layers=tuple(layers))
