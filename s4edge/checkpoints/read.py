"""Which reader reads a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s4edge.checkpoints import around, bare_layer, example_backbone, sequence_backbone
from s4edge.checkpoints.container import read_container
from s4edge.checkpoints.facts import Facts, read_sidecar
from s4edge.checkpoints.hub import find_weights, read_configuration, sorted_for
from s4edge.checkpoints.interpolation import resolve
from s4edge.checkpoints.layer_readers import check_class
from s4edge.checkpoints.part import Part, find_part
from s4edge.checkpoints.tensors import StateDict, Tensors
from s4edge.errors import S4EdgeError
from s4edge.model.sequence_model import SequenceModel


@dataclass(frozen=True)
class Said:
    """A configuration.

    Attributes:
        options: of the model's class.
        cls: the class that a sidecar names.
        notes: what a person should know.
        wrapped: whether the options are those of a wrapper of the person's own, in which the
            backbone's and its layers' may stand side by side.
    """

    options: dict[str, Any] = field(default_factory=dict)
    cls: str | None = None
    notes: tuple[str, ...] = ()
    wrapped: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """An upstream checkpoint before anything is made of it.

    Attributes:
        path: of the file with the weights.
        tensors: the state dict.
        part: the part of it that is a model.
        said: its configuration.
        overrides: facts that were given, but for those about which tensors to take.
        notes: what a person should know about the file.
    """

    path: Path
    tensors: StateDict
    part: Part
    said: Said
    overrides: dict[str, Any]
    notes: tuple[str, ...]


def read_checkpoint(path: str | Path, overrides: Mapping[str, Any] | None = None) -> SequenceModel:
    """Read an upstream checkpoint into the one form of model.

    Args:
        path: the file; a sidecar ``<stem>.json`` beside it is read too.
        overrides: facts that its tensors do not hold, by upstream's names; they win over the
            sidecar's.

    Raises:
        S4EdgeError: the file cannot be read, its layout is unknown, or a fact is missing.
    """
    return model_of(open_checkpoint(path, overrides))


def open_checkpoint(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Checkpoint:
    """The first half of `read_checkpoint`, with its arguments and errors: what is in the files."""
    path = find_weights(Path(path))
    overrides = dict(overrides or {})
    container = read_container(path, weights=overrides.pop("weights", None))
    said = _configuration(path, container.config)
    part = find_part(path, container.tensors, overrides.pop("prefix", None), said.wrapped)
    if part is None:
        raise _unknown(path, set(container.tensors))
    return Checkpoint(path, container.tensors, part, said, overrides, container.notes)


def model_of(checkpoint: Checkpoint) -> SequenceModel:
    """The second half of `read_checkpoint`: the model.

    Raises:
        S4EdgeError: its layout is unknown, or a fact is missing.
    """
    path, part, said = checkpoint.path, checkpoint.part, checkpoint.said
    overrides, options = dict(checkpoint.overrides), dict(said.options)
    # Facts about what lies around a backbone are none of its own.
    outside = around.FACTS if part.around else ()
    ends, here = (
        {key: given.pop(key) for key in outside if key in given} for given in (options, overrides)
    )
    if said.wrapped:
        options = _parted(path, options, part.view(path))
    model = _read(part, path, Facts(path, overrides, options), said.cls)
    if part.around:
        around.add_around(model, path, part.around, part.prefix, Facts(path, here, ends))
    model.provenance.notes = [
        *checkpoint.notes, *part.notes, *said.notes, *model.provenance.notes,
    ]  # fmt: skip
    return model


def _read(part: Part, path: Path, facts: Facts, cls: str | None) -> SequenceModel:
    tensors = part.view(path)
    names = set(tensors.names())
    if example_backbone.claims(names):
        _check_class(path, cls, example_backbone.CLASS)
        return example_backbone.read(tensors, facts)
    if sequence_backbone.claims(names):
        _check_class(path, cls, *sequence_backbone.CLASSES)
        return sequence_backbone.read(tensors, facts)
    if bare_layer.claims(tensors):
        if cls is not None:
            check_class(tensors, cls)
        return bare_layer.read(tensors, facts)
    raise _unknown(path, names)


def _unknown(path: Path, names: set[str]) -> S4EdgeError:
    some = ", ".join(sorted(names)[:3])
    return S4EdgeError(
        f"{path} is of no layout that s4edge knows (its tensors start with {some}); it reads whole "
        "models of upstream's example.py (encoder.*, s4_layers.*, norms.*, decoder.*), its "
        "SequenceModel (layers.*), and bare layers"
    )


def _configuration(path: Path, saved: Any) -> Said:
    """The sidecar's, a hub folder's or else the file's own configuration."""
    sidecar = read_sidecar(path)
    if sidecar is not None:
        options = resolve(sidecar["config"])
        if "L" in sidecar:
            options.setdefault("length", sidecar["L"])
        return Said(options, sidecar.get("cls"))
    hub = read_configuration(path)
    if hub is not None:
        return Said(hub.options, notes=hub.notes, wrapped=True)
    if not isinstance(saved, dict):
        return Said()
    if not isinstance(saved.get("model"), dict):
        return Said(notes=("its hyper_parameters are not those of upstream's trainer: not used",))
    return Said(resolve(saved))


# What upstream's trainer has beside the backbone's group.
_ENDS = ("encoder", "decoder", "d_input", "d_output", "l_output", "task", "length")


def _parted(path: Path, options: dict[str, Any], tensors: Tensors) -> dict[str, Any]:
    """A wrapper's options, the backbone's and the layers' side by side, as upstream's class has."""
    names = set(tensors.names())
    if example_backbone.claims(names):
        return sorted_for(path, options, example_backbone.OPTIONS, "layer_kwargs")
    if sequence_backbone.claims(names) and "model" not in options:
        own = sequence_backbone.OPTIONS
        if not any(".reverse_layer." in name for name in names):
            # The layers have an option of the same name.
            own -= {"bidirectional"}
        whole = any(name.startswith("model.layers.") for name in names)
        ends = {key: options[key] for key in _ENDS if whole and key in options}
        backbone = {key: value for key, value in options.items() if key not in ends}
        backbone = sorted_for(path, backbone, own, "layer")
        return {**ends, "model": backbone} if ends else backbone
    return options


def _check_class(path: Path, said: str | None, *known: str) -> None:
    if said is not None and said not in known:
        raise S4EdgeError(f"{path}: its sidecar says cls={said}, the tensors are of {known[0]}")
