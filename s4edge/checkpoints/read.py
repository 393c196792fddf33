"""Which reader reads a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from s4edge.checkpoints import example_backbone
from s4edge.checkpoints.container import read_tensors
from s4edge.checkpoints.facts import Facts, read_sidecar
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
    tensors = read_tensors(path)
    facts = Facts(path, dict(overrides or {}))
    if not example_backbone.claims(set(tensors)):
        some = ", ".join(sorted(tensors)[:3])
        raise S4EdgeError(
            f"{path} is of no layout that s4edge knows (its tensors start with {some}); it reads "
            "whole models of upstream's example.py, with tensors encoder.*, s4_layers.*, norms.*, "
            "decoder.*"
        )
    sidecar = read_sidecar(path)
    if sidecar is not None:
        cls = sidecar.get("cls", example_backbone.SIDECAR_CLASS)
        if cls != example_backbone.SIDECAR_CLASS:
            raise S4EdgeError(
                f"{path}: its sidecar says cls={cls}, the tensors are of "
                f"{example_backbone.SIDECAR_CLASS}"
            )
        facts.saved = example_backbone.flatten_sidecar(sidecar["config"])
        if "L" in sidecar and "length" not in facts.saved:
            facts.saved["length"] = sidecar["L"]
            facts.ignore("length")
    return example_backbone.read(Tensors(path, tensors), facts)
