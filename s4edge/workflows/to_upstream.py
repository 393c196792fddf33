"""A smaller checkpoint in upstream's own layout, so that training can go on in upstream's code.

The original checkpoint's tensors are kept but for those of the layers' systems, which get the
sizes of a smaller ``d_state``. Where every system has its own poles, each is reduced by itself
(`s4edge.compression.states.mode_counts`); where systems share them, all that share them are reduced
together (`s4edge.compression.states.common_poles`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from s4edge.arrays import Complex, Float
from s4edge.checkpoints.hub import find_weights
from s4edge.checkpoints.layer_readers import READERS
from s4edge.checkpoints.layout import Layout
from s4edge.checkpoints.read import model_of, open_checkpoint
from s4edge.checkpoints.source import UpstreamSource, at_layer, find_source, read_source_layer
from s4edge.checkpoints.tensors import StateDict
from s4edge.checkpoints.upstream_layer import UpstreamLayer
from s4edge.checkpoints.write import check_output, tensors_holding, write_checkpoint
from s4edge.compression.states.base import Method, Use
from s4edge.compression.states.common_poles import SharedModes, reduce_shared
from s4edge.compression.states.methods.registry import find_method
from s4edge.compression.states.mode_counts import reduce_to_mode_count
from s4edge.compression.states.step import check_state_size
from s4edge.errors import S4EdgeError
from s4edge.files import check_writable
from s4edge.model.configuration import backward_name
from s4edge.model.history import Compression, ReducedLayer
from s4edge.model.sequence_model import SequenceModel
from s4edge.progress import Progress
from s4edge.reports.compression_table import compression_answer
from s4edge.systems.h2 import h2_distance
from s4edge.systems.hinf import hinf_distance
from s4edge.systems.modes import Modes
from s4edge.workflows.audience import NOBODY, Audience
from s4edge.workflows.inputs import tell_assumed

# What shared poles are reduced by, in answers.
SHARED_METHOD = "shared-modes"
# By which errors that are found by a search may be off, relative.
_SEARCHED = 1e-4


def compress_to_upstream(
    model: Path,
    state: int,
    output: Path,
    *,
    facts: Mapping[str, Any] | None = None,
    method: str = "balanced",
    audience: Audience = NOBODY,
) -> dict[str, Any]:
    """`compress_checkpoint`, as an answer.

    Returns:
        The answer of ``s4edge compress --format upstream --json``.
    """
    started = time.perf_counter()
    original, small = compress_checkpoint(
        model, state, output, facts=facts, method=method, audience=audience
    )
    answer = compression_answer(original, small, output, time.perf_counter() - started)
    return {**answer, "sidecar": str(output.with_suffix(".json"))}


def compress_checkpoint(
    model: Path,
    state: int,
    output: Path,
    *,
    facts: Mapping[str, Any] | None = None,
    method: str = "balanced",
    audience: Audience = NOBODY,
) -> tuple[SequenceModel, SequenceModel]:
    """Read an upstream checkpoint, reduce it, and write it for the same upstream class.

    ``output`` gets ``{"model": state dict, "s4edge": history}``; the sidecar beside it,
    ``<stem>.json``, the class and its constructor's arguments.

    Args:
        model: the checkpoint.
        state: the new ``d_state``.
        output: the file to write.
        facts: as for `s4edge.load`.
        method: as for `s4edge.compress`, for layers in which each channel has its own poles.
        audience: who is told on the way.

    Returns:
        The original, and what was written, read back; the last entry of its history tells what was
        lost.

    Raises:
        S4EdgeError: upstream's layout cannot hold the result, or a file cannot be read or written.
    """
    check_writable(output, model)
    path = find_weights(model)
    check_output(path, output)
    checkpoint = open_checkpoint(path, facts)
    original = model_of(checkpoint)
    tell_assumed(original, audience)
    if find_method(method).moves_feedthrough:
        raise S4EdgeError(
            f"{method} changes D, which not every upstream layout can hold; take another method"
        )
    check_state_size(state)
    source = find_source(checkpoint, original.provenance)
    with audience.progress("Reducing") as progress:
        tensors, entry = _reduced(source, original, state, method, progress)
    source.layer_options["d_state"] = int(state)
    return original, write_checkpoint(source, tensors, output, entry)


def _reduced(
    source: UpstreamSource, original: SequenceModel, state: int, method: str, progress: Progress
) -> tuple[StateDict, Compression]:
    """All tensors with those of the smaller systems, and what was done."""
    reduce = find_method(method).reduce
    tensors = dict(source.tensors)
    layers: list[ReducedLayer] = []
    methods = set()
    with threadpool_limits(1):
        for index, prefix in enumerate(source.prefixes):
            here = at_layer(source, prefix, original)
            known = _for_length(method, reduce, here.length)
            new, entries, used = _reduce_layer(here, prefix, int(state), known, method)
            methods.add(used)
            tensors |= {prefix + name: value for name, value in new.items()}
            layers += entries
            progress((index + 1) / len(source.prefixes))
    return tensors, Compression(
        format="upstream",
        method=", ".join(sorted(methods)),
        state=int(state),
        layers=tuple(layers),
    )


def _for_length(name: str, method: Method, length: Any) -> Method:
    """A method that knows for how many samples kernels are used, where that is known.

    Raises:
        S4EdgeError: it is not, and the method needs it.
    """
    if isinstance(length, int):
        return partial(method, use=Use(horizon=length))
    if name == "finite-horizon":
        raise S4EdgeError(
            "finite-horizon needs the number of samples that kernels are used for: give the "
            "length of the sequences with --set length=L, or take another method"
        )
    return method


def _reduce_layer(
    source: UpstreamSource, prefix: str, state: int, method: Method, name: str
) -> tuple[StateDict, list[ReducedLayer], str]:
    """The tensors to replace, by their names below the prefix, the history, the method used."""
    tensors = {
        key.removeprefix(prefix): value
        for key, value in source.tensors.items()
        if key.startswith(prefix)
    }
    where = prefix.rstrip(".") or "layer"
    before, known, reader = read_source_layer(source, tensors)
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
            new = tensors_holding(source, tensors, layout, pole, weight)
    except S4EdgeError as error:
        raise S4EdgeError(f"{source.path}: {where}: {error}") from error
    after, _, _ = read_source_layer(source, tensors | new)
    pairs = [(where, before.modes, after.modes)]
    if before.backward is not None and after.backward is not None:
        pairs.append((backward_name(where), before.backward, after.backward))
    bounds = bound.reshape(len(pairs), -1)
    told = [_told(*pair, each) for pair, each in zip(pairs, bounds, strict=True)]
    return new, told, used


def _told(name: str, before: Modes, after: Modes, bound: Float) -> ReducedLayer:
    """As `s4edge.workflows.compress` tells of a layer."""
    error = hinf_distance(before, after)
    # A bound is the method's: where what is stored is rounded by more, there is none.
    holds = error <= bound * (1 + _SEARCHED)
    return ReducedLayer(
        name=name,
        real_states_before=int(before.real_states.sum()),
        real_states_after=int(after.real_states.sum()),
        channel_error=tuple(error.tolist()),
        channel_h2_error=tuple(h2_distance(before, after).tolist()),
        channel_error_bound=tuple(
            float(v) if known else None for v, known in zip(bound, holds, strict=True)
        ),
    )


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
    weight = layout.weights_of(layer.modes, layer.backward)
    rows, features, _ = weight.shape
    systems = len(layout.pole)
    if rows == 1 and systems == features:
        reduced, bound = reduce_to_mode_count(layer.modes, slots, method)
        pole, new = layout.filled(reduced, slots)
        return *layout.on_its_side(pole, new[None]), bound, name
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
    return *layout.on_its_side(pole, new), np.full(rows * features, np.nan), SHARED_METHOD
