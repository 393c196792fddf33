"""Reduction along calibration data: layer by layer, on what the layers reduced so far deliver."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from s4edge.arrays import Float, Int
from s4edge.compression.states.calibration import Passage, give_back_memory, working_copy
from s4edge.compression.states.candidates import Candidate, Candidates
from s4edge.compression.states.layer_error import LayerError
from s4edge.compression.states.observed import Observed
from s4edge.compression.states.refine import MovablePoles, refine
from s4edge.compression.states.unit import Unit, install
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.base import Systems
from s4edge.progress import Progress
from s4edge.systems.modes import Modes
from s4edge.systems.parallel import batches_of, map_batches

# Of the descent, at most.
_STEPS = 40


@dataclass(frozen=True)
class Fitted:
    """A model's units after their reduction along data.

    Attributes:
        candidates: by unit, what was installed.
        predicted: by unit, the relative error of the model's output, to first order, with it and
            all earlier ones reduced.
    """

    candidates: list[Candidate]
    predicted: list[float]


def layer_by_layer(
    model: SequenceModel,
    candidates: list[Candidates],
    orders: list[Int],
    observed: Observed,
    refined: bool,
    put: Callable[[Unit, Int, Candidate], Systems],
    progress: Progress,
) -> Fitted:
    """Reduce each unit where it stands; each is installed before the next one is fitted.

    Args:
        model: left as it is.
        candidates: by unit.
        orders: by unit, (channels,) real states.
        observed: the model on calibration data.
        refined: whether candidates are moved downhill.
        put: installs a unit's candidate into the smaller model and gives its systems.
        progress: called with the fraction done.
    """
    give_back_memory()
    working = working_copy(model)
    original = Passage(observed.model, observed.sample)
    reached = Passage(working, observed.sample)
    # What the layers reduced so far do to the projections of the output.
    change = np.zeros(len(observed.sample))
    fitted = Fitted([], [])
    for index, (each, wanted) in enumerate(zip(candidates, orders, strict=True)):
        unit = each.unit
        while original.at < unit.block:
            original.advance()
            reached.advance()
        u = original.inputs(unit.backward)
        v = reached.inputs(unit.backward) if unit.block else u
        candidate, its_change = _fit(each, wanted, observed.layer_error(unit, u, v), refined)
        systems = put(unit, wanted, candidate)
        install(working.blocks[unit.block], unit, copy.deepcopy(systems).freeze_(torch.float32))
        change += its_change
        fitted.candidates.append(candidate)
        fitted.predicted.append(float(np.linalg.norm(change)))
        progress((index + 1) / len(candidates))
    return fitted


def _fit(
    candidates: Candidates, orders: Int, error: LayerError, refined: bool
) -> tuple[Candidate, Float]:
    """Reduce one unit; and its share of the first-order change of the output's projections."""
    unit = candidates.unit
    free = unit.systems.config.feedthrough
    candidate = candidates.of(orders)
    changed = np.flatnonzero(orders < unit.stable.real_states)
    D = (error.feedthrough if candidate.feedthrough is None else candidate.feedthrough).copy()

    def fit(channels: Int) -> tuple[Modes, float, Float]:
        h = int(channels[0])
        modes, feedthrough = candidate.modes.of_channel(h), float(D[h])
        if refined:
            measured = error.channel(h)
            projected, start = measured.projected, MovablePoles.of(modes, unit.stable.of_channel(h))
            found = refine(measured.mixed, start, free, _STEPS)
            zeros = np.zeros(len(found.weight), np.int64)
            modes = Modes.make(found.poles.log_pole, found.weight, zeros, 1)
            feedthrough = found.feedthrough if free else feedthrough
        else:
            projected = error.projected(h)
        kernel = modes.at(np.arange(error.lags))[0]
        kernel[0] += feedthrough
        return modes, feedthrough, projected.values(error.stable_kernel(h) - kernel)

    fits = map_batches(fit, batches_of(changed, 1))
    parts = [candidate.modes.select(~np.isin(candidate.modes.channel, changed))]
    change = np.zeros(error.signals.original.shape[1])
    for h, (modes, feedthrough, its_change) in zip(changed, fits, strict=True):
        parts.append(
            dataclasses.replace(
                modes, channel=np.full(len(modes.channel), h), channels=unit.stable.channels
            )
        )
        D[h] = feedthrough
        change += its_change
    bound = candidate.bound.copy()
    if refined:
        bound[changed] = np.nan
    moved = refined or candidate.feedthrough is not None
    return Candidate(Modes.concatenate(parts), D if moved else None, bound), change
