"""Checkpoints in upstream's own layout: the tensors of a layer, and the file with its sidecar."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from s4edge.arrays import Complex
from s4edge.checkpoints.layout import Layout
from s4edge.checkpoints.read import read_checkpoint
from s4edge.checkpoints.source import UpstreamSource, read_source_layer
from s4edge.checkpoints.tensors import StateDict
from s4edge.errors import S4EdgeError
from s4edge.files import replacing
from s4edge.model.file import read_description
from s4edge.model.history import Compression, to_json
from s4edge.model.sequence_model import SequenceModel
from s4edge.version import VERSION

_SUFFIXES = (".pt", ".pth", ".ckpt")


def check_output(path: Path, output: Path) -> None:
    """Check that one can be the original and the other what is written.

    Raises:
        S4EdgeError: the original is a compressed model, or the output's name is that of another
            kind of file or of the original.
    """
    if read_description(path) is not None:
        raise S4EdgeError(
            f"{path} is a model compressed by s4edge; name the upstream checkpoint that it came "
            "from, for its other tensors"
        )
    if output.suffix not in _SUFFIXES:
        raise S4EdgeError(
            f"{output}: a checkpoint for upstream's code ends in {', '.join(_SUFFIXES)}"
        )
    if output.with_suffix("").resolve() == path.with_suffix("").resolve():
        raise S4EdgeError(f"{output} would replace the original or its sidecar; choose another -o")


def write_checkpoint(
    source: UpstreamSource, tensors: StateDict, output: Path, entry: Compression
) -> SequenceModel:
    """Write tensors as upstream's code reads them, with the sidecar that its class is built from.

    Args:
        source: the original.
        tensors: the state dict.
        output: the file; its sidecar gets the same name with ``.json``.
        entry: what was done, for the history.

    Returns:
        What was written, read back.

    Raises:
        S4EdgeError: a file cannot be written, or what would be written not be read.
    """
    history = {"version": VERSION, "source": source.path.name, "history": [to_json(entry)]}
    sidecar = {"cls": source.cls, "config": source.config}
    if source.length is not None:
        sidecar["L"] = source.length
    with tempfile.TemporaryDirectory() as folder:
        # Read back before anything is replaced: what is written can be read.
        trial = Path(folder) / output.name
        text = json.dumps(sidecar, indent=1)
        torch.save({"model": tensors, "s4edge": history}, trial)
        trial.with_suffix(".json").write_text(text, encoding="utf-8")
        small = read_checkpoint(trial)
        with replacing(output) as checkpoint, replacing(output.with_suffix(".json")) as beside:
            checkpoint.write_bytes(trial.read_bytes())
            beside.write_text(text, encoding="utf-8")
    small.provenance.source = source.path.name
    small.provenance.history.append(entry)
    return small


def tensors_holding(
    source: UpstreamSource, tensors: StateDict, layout: Layout, pole: Complex, weight: Complex
) -> StateDict:
    """The tensors that hold poles and weights in a layer, of the dtypes of those that they replace.

    Args:
        source: whose layer it is.
        tensors: the layer's, by their names in it.
        layout: the layer's.
        pole: (systems, modes) in continuous time.
        weight: (rows, features, modes) of the discrete modes.

    Raises:
        S4EdgeError: the layer silences one of them, or its dtypes cannot hold them.
    """
    new = {
        name: torch.from_numpy(np.ascontiguousarray(value)).to(tensors[name].dtype)
        for name, value in layout.write(pole).items()
    }
    old = tensors[layout.weights]
    shape = (*old.shape[:-2], pole.shape[1], 2)
    ones = torch.zeros(shape, dtype=old.dtype)
    ones[..., 0] = 1
    # With ones for C the reader gives what it multiplies C by, at the poles as they are stored.
    unit, _, _ = read_source_layer(source, tensors | new | {layout.weights: ones})
    gain = layout.weights_of(unit.modes, unit.backward)
    lost = (gain == 0) & (weight != 0)
    if lost.any():
        raise S4EdgeError(
            f"{np.count_nonzero(lost)} reduced modes lie where the layer's bandlimit or a pole at "
            "0 silences them; write s4edge's own format"
        )
    C = np.where(weight == 0, 0, weight / np.where(gain == 0, 1, gain))
    parts = np.stack([C.real, C.imag], axis=-1).reshape(shape)
    new[layout.weights] = torch.from_numpy(np.ascontiguousarray(parts)).to(old.dtype)
    for name, value in new.items():
        if not torch.isfinite(value).all():
            raise S4EdgeError(f"{name} would hold values out of the range of {value.dtype}")
    return new
