"""A prepared model reduced to a size, with what was lost in its history."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from s4edge.arrays import Float, Int
from s4edge.compression.states.calibration import (
    one_thread_each,
    output_on,
    working_copy,
)
from s4edge.compression.states.candidates import Candidate
from s4edge.compression.states.certificates import certify
from s4edge.compression.states.fitting import layer_by_layer
from s4edge.compression.states.observed import Observed, relative_error, same_class
from s4edge.compression.states.output_descent import descend
from s4edge.compression.states.prepared import Prepared
from s4edge.compression.states.unit import Unit, all_systems, install, systems_of
from s4edge.model.history import Compression, OutputError, ReducedLayer
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.base import Systems
from s4edge.progress import Progress, part_of, silent
from s4edge.systems.modes import Modes

# Above that relative error of the output all layers are moved together, in rounds of so many steps.
_NOT_LINEAR = 0.05
_DESCENT = 40


def to_state(prepared: Prepared, state: int, progress: Progress = silent) -> SequenceModel:
    """Reduced to a state size, in the checkpoint's own count of ``d_state``.

    Where states are allocated, the size is the average.

    Raises:
        S4EdgeError: growing modes leave no room.
    """
    orders = [unit.uniform_orders(state) for unit in prepared.units]
    if prepared.budget is not None:
        orders = prepared.budget.orders(int(sum(each.sum() for each in orders)))
    return _reduced(prepared, _Size(orders, state=state), progress)


def to_total(
    prepared: Prepared, total: int, tolerance: float, progress: Progress = silent
) -> SequenceModel:
    """Reduced to a total of real states of stable modes, allocated.

    Args:
        prepared: with a budget.
        total: of all units.
        tolerance: which the total is meant to keep, for the history.
        progress: called with the fraction done.
    """
    assert prepared.budget is not None
    size = _Size(prepared.budget.orders(total), tolerance=tolerance)
    return _reduced(prepared, size, progress)


@dataclass(frozen=True)
class _Size:
    """Orders by unit, (channels,) real states each, and what was asked for."""

    orders: list[Int]
    state: int | None = None
    tolerance: float | None = None


@dataclass(frozen=True)
class _AlongData:
    """What was done on calibration data, and the model's output error then.

    ``predicted`` and ``measured`` are the output's with each unit and all before it reduced.
    """

    candidates: list[Candidate]
    error: OutputError
    predicted: list[float]
    measured: list[float]

    @property
    def descended(self) -> bool:
        """Whether all layers were moved together."""
        return self.error.layer_by_layer is not None


@one_thread_each()
def _reduced(prepared: Prepared, size: _Size, progress: Progress) -> SequenceModel:
    small = copy.deepcopy(prepared.model)
    observed, settings = prepared.observed, prepared.settings
    along = None
    if observed is None:
        candidates = []
        for index, (each, orders) in enumerate(zip(prepared.candidates, size.orders, strict=True)):
            candidate = each.of(orders)
            _put(prepared, small, size, each.unit, orders, candidate)
            candidates.append(candidate)
            progress((index + 1) / len(prepared.candidates))
    else:
        along = _along_data(prepared, small, size, observed, progress)
        candidates = along.candidates
    _set_configuration(small)
    entry = Compression(
        method=settings.method,
        allocate="sensitivity" if settings.allocated else "uniform",
        refine=settings.refined,
        state=size.state,
        tolerance=size.tolerance,
        calibration=None if observed is None or along is None else observed.told(along.descended),
        output_error=None if along is None else along.error,
        layers=tuple(_layers(prepared, small, candidates, along)),
    )
    small.provenance.history.append(entry)
    progress(1)
    return small


def _put(
    prepared: Prepared,
    small: SequenceModel,
    size: _Size,
    unit: Unit,
    orders: Int,
    candidate: Candidate,
) -> Systems:
    """Install a unit's candidate in the smaller model."""
    config = unit.systems.config
    state = (orders + unit.kept_states).sum() / unit.stable.channels / config.states_per_size
    if size.state is not None and prepared.budget is None:
        state = min(size.state, config.state_size)
    systems = unit.with_modes(candidate.modes, candidate.feedthrough, round(float(state), 3))
    install(small.blocks[unit.block], unit, systems)
    return systems


def _along_data(
    prepared: Prepared,
    small: SequenceModel,
    size: _Size,
    observed: Observed,
    progress: Progress,
) -> _AlongData:
    """Layer by layer on what the layers reduced so far deliver, then all together."""
    refined = prepared.settings.refined

    def put(unit: Unit, orders: Int, candidate: Candidate) -> Systems:
        return _put(prepared, small, size, unit, orders, candidate)

    fitted = layer_by_layer(
        prepared.model, prepared.candidates, size.orders, observed, refined, put,
        part_of(progress, 0, 2),
    )  # fmt: skip
    _set_configuration(small)
    aim, calibration = observed.output, observed.measured
    candidates, before_descent = fitted.candidates, None
    after = output_on(working_copy(small), calibration)
    found = relative_error(after, aim)
    if refined and found > _NOT_LINEAR:
        before_descent = found
        pool, aims = observed.pool()
        descend(small, prepared.model, pool, aims, _DESCENT, part_of(progress, 1, 2))
        after = output_on(working_copy(small), calibration)
        found = relative_error(after, aim)
        candidates = [
            _moved(systems_of(small, unit).modes(), each)
            for unit, each in zip(prepared.units, candidates, strict=True)
        ]
    error = OutputError(
        predicted=fitted.predicted[-1],
        layer_by_layer=before_descent,
        measured=found,
        same_class=same_class(aim, after),
    )
    measured = observed.error_by_unit(small, prepared.units)
    return _AlongData(candidates, error, fitted.predicted, measured)


def _moved(stored: Modes, candidate: Candidate) -> Candidate:
    """What descent left of a candidate: nothing is known of it but what can be measured."""
    unknown: Float = candidate.bound * float("nan")
    return Candidate(stored.select(stored.is_stable), candidate.feedthrough, unknown)


def _layers(
    prepared: Prepared, small: SequenceModel, candidates: list[Candidate], along: _AlongData | None
) -> Iterator[ReducedLayer]:
    """What became of all systems; those that are not reduced lose nothing."""
    error = None if along is None else OutputError(predicted=0.0, measured=0.0)
    place = {(unit.block, unit.backward): index for index, unit in enumerate(prepared.units)}
    for block, backward, name, systems in all_systems(small):
        index = place.get((block, backward))
        if index is None:
            yield _kept(name, systems, error)
            continue
        if along is not None:
            error = OutputError(predicted=along.predicted[index], measured=along.measured[index])
        yield _told(small, prepared.units[index], candidates[index], error)


def _kept(name: str, systems: Systems, error: OutputError | None) -> ReducedLayer:
    config = systems.config
    nothing = (0.0,) * config.channels
    return ReducedLayer(
        name=name,
        real_states_before=config.real_states,
        real_states_after=config.real_states,
        channel_real_states=None if config.real_states else (0,) * config.channels,
        channel_error=nothing,
        channel_error_bound=nothing,
        channel_h2_error=nothing,
        channel_lower_bound=nothing,
        output_error=error,
    )


def _told(
    small: SequenceModel, unit: Unit, candidate: Candidate, error: OutputError | None
) -> ReducedLayer:
    systems = systems_of(small, unit)
    stored = systems.modes()
    shift = (systems.D - unit.systems.D).detach().double().numpy()
    certificates = certify(
        unit.stable, candidate.modes, stored.select(stored.is_stable), shift, candidate.bound
    )
    return ReducedLayer(
        name=unit.name,
        real_states_before=unit.systems.config.real_states,
        real_states_after=systems.config.real_states,
        channel_real_states=tuple(stored.real_states.tolist()),
        channel_error=tuple(certificates.hinf.tolist()),
        channel_error_bound=tuple(certificates.bound.tolist()),
        channel_h2_error=tuple(certificates.h2.tolist()),
        channel_lower_bound=tuple(certificates.lower.tolist()),
        output_error=error,
    )


def _set_configuration(model: SequenceModel) -> None:
    blocks = tuple(block.config for block in model.blocks)
    model.config = dataclasses.replace(model.config, blocks=blocks)
