"""An upstream checkpoint as upstream's code knows it: its class, its options, its layers."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from s4edge.checkpoints import bare_layer, example_backbone, sequence_backbone
from s4edge.checkpoints.facts import Facts, read_sidecar
from s4edge.checkpoints.layer_readers import find_reader
from s4edge.checkpoints.read import Checkpoint
from s4edge.checkpoints.tensors import StateDict, Tensors
from s4edge.checkpoints.upstream_layer import LayerReader, UpstreamLayer
from s4edge.errors import S4EdgeError
from s4edge.model.sequence_model import Provenance, SequenceModel

# A backbone's own options; those of its layers stand below another key.
_EXAMPLE_OPTIONS = ("d_input", "d_output", "d_model", "n_layers", "dropout", "prenorm")


@dataclass(frozen=True)
class UpstreamSource:
    """The original: tensors, where its layers are, and what is known beside them.

    Attributes:
        path: of its file.
        tensors: its state dict.
        prefixes: of its layers, with their dot.
        cls: upstream's class.
        config: its constructor's arguments.
        layer_options: the part of ``config`` that is of the layers, the same object.
        length: of the sequences, if known.
    """

    path: Path
    tensors: StateDict
    prefixes: tuple[str, ...]
    cls: str
    config: dict[str, Any]
    layer_options: dict[str, Any]
    length: Any


def find_source(checkpoint: Checkpoint, provenance: Provenance) -> UpstreamSource:
    """What a checkpoint is to upstream's code.

    Args:
        checkpoint: opened.
        provenance: of the model that was read of it.

    Raises:
        S4EdgeError: upstream's code could not read it back.
    """
    path, part, tensors = checkpoint.path, checkpoint.part, checkpoint.tensors
    if part.prefix:
        raise S4EdgeError(
            f"{path}: its model is a part of another ({part.prefix.rstrip('.')}), which cannot be "
            "written for upstream's code; write s4edge's own format"
        )
    sidecar = read_sidecar(path)
    facts = dict(checkpoint.overrides)
    known = {**provenance.inferred, **provenance.assumed, **provenance.given}
    length = facts.pop("length", known.pop("length", None))
    if sidecar is not None:
        length = sidecar.get("L") if length is None else length
    names, view = set(tensors), Tensors(path, tensors)
    if example_backbone.claims(names):
        count = view.count("s4_layers")
        prefixes = tuple(f"s4_layers.{index}." for index in range(count))
        cls, config, options = _of_example(view, sidecar, facts, known)
    elif sequence_backbone.claims(names):
        prefixes = tuple(_sequence_prefixes(view))
        cls, config, options = _of_sequence(path, sidecar, facts)
    elif bare_layer.claims(view):
        prefixes = ("",)
        cls, config, options = _of_layer(view, sidecar, facts, known)
    else:  # the reader would have said so
        raise S4EdgeError(f"{path} is of no layout that can be written")
    return UpstreamSource(path, tensors, prefixes, cls, config, options, length)


def at_layer(source: UpstreamSource, prefix: str, model: SequenceModel) -> UpstreamSource:
    """The source with the length that sequences have at a layer: less behind a stride."""
    found = re.search(r"(?:^|\.)layers\.(\d+)\.", prefix)
    if found is None or not isinstance(source.length, int):
        return source
    lengths = model.config.samples_entering(source.length)
    return replace(source, length=lengths[int(found[1])])


def read_source_layer(
    source: UpstreamSource, tensors: StateDict
) -> tuple[UpstreamLayer, dict[str, Any], LayerReader]:
    """A layer in our terms, and what its reader was told or assumed."""
    options = {
        key: value
        for key, value in source.layer_options.items()
        if key not in ("d_state", "_name_", "transposed", "dropout")
    }
    if source.length is not None:
        options.setdefault("length", source.length)
    facts, view = Facts(source.path, {}, options), Tensors(source.path, tensors)
    reader = _reader(view)
    d_model = view.shape("D" if "D" in view else "layer.D")[-1]
    layer = reader.read(view, facts, d_model)
    return layer, {**facts.inferred, **facts.assumed, **facts.given}, reader


_Configuration = tuple[str, dict[str, Any], dict[str, Any]]


def _of_example(
    tensors: Tensors, sidecar: dict[str, Any] | None, facts: dict[str, Any], known: dict[str, Any]
) -> _Configuration:
    if sidecar is None:
        reader = _reader(tensors.under("s4_layers.0."))
        config = {key: known.pop(key) for key in _EXAMPLE_OPTIONS if key in known}
        options = _constructor_options(tensors.under("s4_layers.0."), known)
        config |= {"layer": reader.classes[0], "layer_kwargs": options}
        return example_backbone.CLASS, config, options
    config = copy.deepcopy(sidecar["config"])
    options = config["layer_kwargs"] = dict(config.get("layer_kwargs") or {})
    for key, value in facts.items():
        (config if key in _EXAMPLE_OPTIONS else options)[key] = value
    return sidecar.get("cls", example_backbone.CLASS), config, options


def _of_layer(
    tensors: Tensors, sidecar: dict[str, Any] | None, facts: dict[str, Any], known: dict[str, Any]
) -> _Configuration:
    cls = _reader(tensors).classes[0]
    if sidecar is None:
        config = _constructor_options(tensors, known)
        return cls, config, config
    config = {**sidecar["config"], **facts}
    return sidecar.get("cls", cls), config, config


def _of_sequence(
    path: Path, sidecar: dict[str, Any] | None, facts: dict[str, Any]
) -> _Configuration:
    """The configuration of upstream's SequenceModel, whose layers may be of several kinds."""
    if sidecar is None or facts:
        raise S4EdgeError(
            f"{path}: a SequenceModel is written from its configuration in a sidecar "
            f"({path.stem}.json with cls and config) alone, without --set"
        )
    config = copy.deepcopy(sidecar["config"])
    backbone = config["model"] if isinstance(config.get("model"), dict) else config
    options = backbone.get("layer")
    if not isinstance(options, dict):
        raise S4EdgeError(
            f"{path}: its layers are of several kinds, or its sidecar does not say of which; "
            "such a SequenceModel is written in s4edge's own format only"
        )
    return sidecar.get("cls", sequence_backbone.CLASSES[0]), config, options


def _sequence_prefixes(tensors: Tensors) -> list[str]:
    top = "model." if any(name.startswith("model.layers.") for name in tensors.names()) else ""
    found = []
    for index in range(tensors.count(f"{top}layers")):
        for part in ("layer", "reverse_layer"):
            prefix = f"{top}layers.{index}.{part}."
            if find_reader(tensors.under(prefix)) is not None:
                found.append(prefix)
    return found


def _constructor_options(tensors: Tensors, known: dict[str, Any]) -> dict[str, Any]:
    """A layer's options from what a reader found, and those that only shapes tell."""
    options = {key: value for key, value in known.items() if key != "weights"}
    if "layer.kernel.A_real" in tensors:
        options["n_ssm"] = tensors.shape("layer.kernel.A_real")[0]
        options["dt_tie"] = tensors.shape("layer.kernel.inv_dt")[1] == 1
    return options


def _reader(tensors: Tensors) -> LayerReader:
    reader = find_reader(tensors)
    assert reader is not None  # it has been read
    return reader
