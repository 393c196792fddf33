"""Which reader reads a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s4edge.checkpoints import bare_layer, example_backbone, sequence_backbone
from s4edge.checkpoints.container import read_container
from s4edge.checkpoints.facts import Facts, read_sidecar
from s4edge.checkpoints.interpolation import resolve
from s4edge.checkpoints.layers import check_class
from s4edge.checkpoints.tensors import Tensors
from s4edge.errors import S4EdgeError
from s4edge.model.sequence_model import SequenceModel


def read_checkpoint(path: str | Path, overrides: Mapping[str, Any] | None = None) -> SequenceModel:
    """Read an upstream checkpoint into the one form of model.

    Args:
        path: the file; a sidecar ``<stem>.json`` beside it is read too.
        overrides: facts that its tensors do not hold, by upstream's names; they win over the
            sidecar's.

    Raises:
        S4EdgeError: the file cannot be read, its layout is unknown, or a fact is missing.
    """
    path = Path(path)
    overrides = dict(overrides or {})
    container = read_container(path, weights=overrides.pop("weights", None))
    tensors, names = Tensors(path, container.tensors), set(container.tensors)
    saved, cls, notes = _configuration(path, container.config)
    model = _read(path, tensors, names, Facts(path, overrides, saved), cls)
    model.provenance.notes = [*container.notes, *notes, *model.provenance.notes]
    return model


def _read(
    path: Path, tensors: Tensors, names: set[str], facts: Facts, cls: str | None
) -> SequenceModel:
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
    some = ", ".join(sorted(names)[:3])
    raise S4EdgeError(
        f"{path} is of no layout that s4edge knows (its tensors start with {some}); it reads whole "
        "models of upstream's example.py (encoder.*, s4_layers.*, norms.*, decoder.*), its "
        "SequenceModel (layers.*), and bare layers"
    )


def _configuration(path: Path, saved: Any) -> tuple[dict[str, Any], str | None, list[str]]:
    """The sidecar's configuration or else the file's own, the class named there, and notes."""
    sidecar = read_sidecar(path)
    if sidecar is not None:
        config = resolve(sidecar["config"])
        if "L" in sidecar:
            config.setdefault("length", sidecar["L"])
        return config, sidecar.get("cls"), []
    if not isinstance(saved, dict):
        return {}, None, []
    if not isinstance(saved.get("model"), dict):
        return {}, None, ["its hyper_parameters are not those of upstream's trainer: not used"]
    return resolve(saved), None, []


def _check_class(path: Path, said: str | None, *known: str) -> None:
    if said is not None and said not in known:
        raise S4EdgeError(f"{path}: its sidecar says cls={said}, the tensors are of {known[0]}")
