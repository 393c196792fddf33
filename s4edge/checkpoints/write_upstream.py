"""Reduced checkpoints in upstream's own layout, so that training can go on in upstream's code.

The original checkpoint's tensors are kept but for those of the layers' systems, which get the
sizes of a smaller ``d_state``. Where every system has its own poles, each is reduced by itself
(`s4edge.compression.states.mode_counts`); where systems share them, all that share them are reduced
together (`s4edge.compression.states.common_poles`).
"""

from __future__ import annotations

import copy
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from s4edge.arrays import Complex, Float
from s4edge.checkpoints import bare_layer, example_backbone, sequence_backbone
from s4edge.checkpoints.container import read_container
from s4edge.checkpoints.facts import Facts, read_sidecar
from s4edge.checkpoints.hub import find_weights
from s4edge.checkpoints.layer_readers import READERS, find_reader
from s4edge.checkpoints.layout import Layout
from s4edge.checkpoints.part import find_part
from s4edge.checkpoints.read import read_checkpoint
from s4edge.checkpoints.tensors import StateDict, Tensors
from s4edge.checkpoints.upstream_layer import LayerReader, UpstreamLayer
from s4edge.compression.states.base import Method
from s4edge.compression.states.common_poles import SharedModes, reduce_shared
from s4edge.compression.states.methods.registry import find_method
from s4edge.compression.states.mode_counts import reduce_to_mode_count
from s4edge.compression.states.step import check_state_size
from s4edge.errors import S4EdgeError
from s4edge.files import replacing
from s4edge.model.configuration import backward_name
from s4edge.model.file import read_description
from s4edge.model.history import Compression, ReducedLayer, to_json
from s4edge.model.sequence_model import Provenance, SequenceModel
from s4edge.systems.h2 import h2_distance
from s4edge.systems.hinf import hinf_distance
from s4edge.systems.modes import Modes
from s4edge.version import VERSION

# What shared poles are reduced by, in answers.
SHARED_METHOD = "shared-modes"
# Faster than this a discrete pole is zero for every purpose.
_FASTEST = -30.0
# A backbone's own options; those of its layers stand below another key.
_EXAMPLE_OPTIONS = ("d_input", "d_output", "d_model", "n_layers", "dropout", "prenorm")
_SUFFIXES = (".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class _Source:
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


def check_source_and_output(path: Path, output: Path) -> None:
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


def compress_upstream(
    path: str | Path,
    state: int,
    output: str | Path,
    facts: Mapping[str, Any] | None = None,
    *,
    method: str = "balanced",
    progress: Callable[[float], None] = lambda fraction: None,
) -> SequenceModel:
    """Reduce an upstream checkpoint and write it for the same upstream class with less ``d_state``.

    ``output`` gets ``{"model": state dict, "s4edge": history}``; the sidecar beside it,
    ``<stem>.json``, the class and its constructor's arguments.

    Args:
        path: the upstream checkpoint.
        state: the new ``d_state``.
        output: where to write.
        facts: as for `s4edge.load`.
        method: as for `s4edge.compress`, for layers in which each channel has its own poles.
        progress: called with the fraction done.

    Returns:
        What was written, read back; the last entry of its history tells what was lost.

    Raises:
        S4EdgeError: upstream's layout cannot hold the result, or a file cannot be read or written.
    """
    path, output = find_weights(Path(path)), Path(output)
    check_source_and_output(path, output)
    chosen = find_method(method)
    if chosen.moves_feedthrough:
        raise S4EdgeError(
            f"{method} changes D, which not every upstream layout can hold; take another method"
        )
    check_state_size(state)
    model = read_checkpoint(path, facts)
    source = _find_source(path, dict(facts or {}), model.provenance)
    tensors = dict(source.tensors)
    layers: list[ReducedLayer] = []
    methods = set()
    with threadpool_limits(1):
        for index, prefix in enumerate(source.prefixes):
            here = _with_length_at(source, prefix, model)
            new, entries, used = _reduce_layer(here, prefix, int(state), chosen.reduce, method)
            methods.add(used)
            tensors |= {prefix + name: value for name, value in new.items()}
            layers += entries
            progress((index + 1) / len(source.prefixes))
    entry = Compression(
        format="upstream",
        method=", ".join(sorted(methods)),
        state=int(state),
        layers=tuple(layers),
    )
    source.layer_options["d_state"] = int(state)
    return _write(source, tensors, output, entry)


def _with_length_at(source: _Source, prefix: str, model: SequenceModel) -> _Source:
    """The source with the length that sequences have at a layer: less behind a stride."""
    found = re.search(r"(?:^|\.)layers\.(\d+)\.", prefix)
    if found is None or not isinstance(source.length, int):
        return source
    lengths = model.config.samples_entering(source.length)
    return replace(source, length=lengths[int(found[1])])


def _write(source: _Source, tensors: StateDict, output: Path, entry: Compression) -> SequenceModel:
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


# What the original is


def _find_source(path: Path, facts: dict[str, Any], provenance: Provenance) -> _Source:
    tensors = read_container(path, facts.pop("weights", None)).tensors
    part = find_part(path, tensors, facts.pop("prefix", None))
    if part is not None and part.prefix:
        raise S4EdgeError(
            f"{path}: its model is a part of another ({part.prefix.rstrip('.')}), which cannot be "
            "written for upstream's code; write s4edge's own format"
        )
    sidecar = read_sidecar(path)
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
    return _Source(path, tensors, prefixes, cls, config, options, length)


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


# One layer


def _reduce_layer(
    source: _Source, prefix: str, state: int, method: Method, name: str
) -> tuple[StateDict, list[ReducedLayer], str]:
    """The tensors to replace, by their names below the prefix, the history, the method used."""
    tensors = {
        key.removeprefix(prefix): value
        for key, value in source.tensors.items()
        if key.startswith(prefix)
    }
    where = prefix.rstrip(".") or "layer"
    before, known, reader = _read_layer(source, tensors)
    try:
        if reader.layout is None:
            written = ", ".join(each.name for each in READERS if each.layout is not None)
            raise S4EdgeError(
                f"{reader.name} is not written, only {written}; write s4edge's own format"
            )
        if state > before.state_size:
            raise S4EdgeError(
                f"the state size {state} is larger than the layer's {before.state_size}: "
                "reduction takes states away; choose a smaller one"
            )
        layout = reader.layout(tensors, known)
        _refuse_growing(before)
        if state == before.state_size:
            new, bound, used = {}, np.zeros(before.modes.channels), name
        else:
            pole, weight, bound, used = _reduce(before, layout, state, method, name)
            new = _held(source, tensors, layout, pole, weight)
    except S4EdgeError as error:
        raise S4EdgeError(f"{source.path}: {where}: {error}") from error
    after, _, _ = _read_layer(source, tensors | new)
    pairs = [(where, before.modes, after.modes)]
    if before.backward is not None and after.backward is not None:
        pairs.append((backward_name(where), before.backward, after.backward))
    bounds = bound.reshape(len(pairs), -1)
    told = [_told(*pair, each) for pair, each in zip(pairs, bounds, strict=True)]
    return new, told, used


def _told(name: str, before: Modes, after: Modes, bound: Float) -> ReducedLayer:
    """As `s4edge.workflows.compress` tells of a layer."""
    return ReducedLayer(
        name=name,
        real_states_before=int(before.real_states.sum()),
        real_states_after=int(after.real_states.sum()),
        channel_error=tuple(hinf_distance(before, after).tolist()),
        channel_h2_error=tuple(h2_distance(before, after).tolist()),
        channel_error_bound=tuple(float(v) if np.isfinite(v) else None for v in bound),
    )


def _read_layer(
    source: _Source, tensors: StateDict
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


def _refuse_growing(layer: UpstreamLayer) -> None:
    for modes in (layer.modes, layer.backward):
        if modes is not None and not modes.is_stable.all():
            growth = float(np.exp(modes.log_pole.real.max()))
            raise S4EdgeError(
                f"it has modes that grow (|a| = {growth:.6g}, meaningful up to the kernel's length "
                "only), which have no infinite-horizon Gramian and cannot be reduced in "
                "upstream's layout; s4edge's own format keeps them beside reduced ones"
            )


def _reduce(
    layer: UpstreamLayer, layout: Layout, state: int, method: Method, name: str
) -> tuple[Complex, Complex, Float, str]:
    """Reduced poles and weights for a layout.

    Returns:
        Continuous-time poles (systems, modes), discrete weights (rows, features, modes), the error
        bound of each system, and the method.
    """
    slots = layout.slots(state)
    weight = _weights(layer, layout)
    rows, features, _ = weight.shape
    systems = len(layout.pole)
    if rows == 1 and systems == features:
        reduced, bound = reduce_to_mode_count(layer.modes, slots, method)
        pole, new = _fill(layout, reduced, slots)
        return *_to_side(pole, new[None], layout.upper), bound, name
    if name != "balanced":
        raise S4EdgeError(
            f"its systems share poles, which {name} would give each its own; leave out --method"
        )
    pole = np.zeros((systems, slots), dtype=np.complex128)
    new = np.zeros((rows, features, slots), dtype=np.complex128)
    for system in range(systems):
        own = slice(system, None, systems)
        shared = SharedModes(
            layout.pole[system], layout.steps[own], weight[:, own], layout.bilinear
        )
        small = reduce_shared(shared, slots)
        pole[system], new[:, own] = small.pole, small.weight
    return *_to_side(pole, new, layout.upper), np.full(rows * features, np.nan), SHARED_METHOD


def _fill(layout: Layout, modes: Modes, slots: int) -> tuple[Complex, Complex]:
    """Continuous-time poles and weights (features, slots); places left over keep an old pole."""
    if not modes.is_stable.all():  # rounding at the unit circle
        raise S4EdgeError("a reduced pole is not inside the unit circle")
    log_pole = np.maximum(modes.log_pole.real, _FASTEST) + 1j * modes.log_pole.imag
    z = 2 * np.tanh(log_pole / 2) if layout.bilinear else log_pole
    counts = np.bincount(modes.channel, minlength=modes.channels)
    place = np.arange(len(z)) - np.repeat(np.cumsum(counts) - counts, counts)
    pole = layout.pole[:, :slots].copy()
    weight = np.zeros((modes.channels, slots), dtype=np.complex128)
    pole[modes.channel, place] = z / layout.steps[modes.channel, 0]
    weight[modes.channel, place] = modes.weight
    return pole, weight


def _to_side(pole: Complex, weight: Complex, upper: bool | None) -> tuple[Complex, Complex]:
    """Replace modes by their conjugates where the layout wants their poles on the other side.

    Args:
        pole: (systems, modes).
        weight: (rows, features, modes).
        upper: see `Layout`.
    """
    if upper is None:
        return pole, weight
    # Zero without a sign: of a real pole, either.
    wrong = pole.imag < 0 if upper else pole.imag > 0
    turned = np.tile(wrong, (weight.shape[1] // len(pole), 1))
    return np.where(wrong, pole.conj(), pole), np.where(turned, weight.conj(), weight)


def _weights(layer: UpstreamLayer, layout: Layout) -> Complex:
    """(rows, features, modes) the weights of a layer as it was read, rows both ways in time."""
    features = len(layout.steps)
    parts = []
    for modes in (layer.modes, layer.backward):
        if modes is None:
            continue
        rows = modes.channels // features
        if layout.interleaved:
            parts.append(modes.weight.reshape(features, rows, -1).swapaxes(0, 1))
        else:
            parts.append(modes.weight.reshape(rows, features, -1))
    return np.concatenate(parts)


def _held(
    source: _Source, tensors: StateDict, layout: Layout, pole: Complex, weight: Complex
) -> StateDict:
    """The tensors of poles and weights, of the dtypes of those that they replace."""
    new = {
        name: torch.from_numpy(np.ascontiguousarray(value)).to(tensors[name].dtype)
        for name, value in layout.write(pole).items()
    }
    old = tensors[layout.weights]
    shape = (*old.shape[:-2], pole.shape[1], 2)
    ones = torch.zeros(shape, dtype=old.dtype)
    ones[..., 0] = 1
    # With ones for C the reader gives what it multiplies C by, at the poles as they are stored.
    unit, _, _ = _read_layer(source, tensors | new | {layout.weights: ones})
    gain = _weights(unit, layout)
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
