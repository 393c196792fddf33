"""A model made ready to be reduced, to one size or to many."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from s4edge.arrays import Float, Int
from s4edge.compression.states.allocation import Curves, Walk, walk
from s4edge.compression.states.base import Use
from s4edge.compression.states.calibration import (
    Calibration,
    Passage,
    output_on,
    working_copy,
)
from s4edge.compression.states.certificates import certify
from s4edge.compression.states.kernel_error import KernelError
from s4edge.compression.states.layer_error import LayerError
from s4edge.compression.states.methods.registry import METHODS
from s4edge.compression.states.observed import observe, relative_error
from s4edge.compression.states.output_descent import descend
from s4edge.compression.states.refine import MovablePoles, refine, solve_weights
from s4edge.compression.states.unit import Unit, install, systems_of, units_of
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems import DiagonalSystems
from s4edge.progress import Progress, part_of, silent
from s4edge.systems.modes import Modes
from s4edge.systems.parallel import blocks_of, map_blocks

# Orders at which a channel's error is known when a total is allocated.
_ORDERS = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256)
# Of the descent, at most.
_STEPS = 40
# Above that relative error of the output all layers are moved together, in rounds of so many steps.
_NOT_LINEAR = 0.05
_DESCENT = 40


@dataclass(frozen=True)
class ReducerSettings:
    """How to reduce.

    Attributes:
        method: a key of `METHODS`.
        allocated: whether a total is spent over all channels.
        refined: whether results are moved downhill on calibration data.
        horizon: samples for which kernels are used, or None.
    """

    method: str
    allocated: bool = False
    refined: bool = False
    horizon: int | None = None


@dataclass(frozen=True)
class _Reduction:
    """One unit's result.

    Attributes:
        modes: what takes the place of the stable modes.
        feedthrough: (channels,) the new ``D``; None for the old one.
        bound: (channels,) the method's bound of the H-infinity error, nan where it has none.
    """

    modes: Modes
    feedthrough: Float | None
    bound: Float


class Reducer:
    """A model with everything that does not depend on the size it is reduced to.

    Args:
        model: left as it is.
        settings: how to reduce.
        calibration: sequences, or None.
        progress: called with the fraction done.
    """

    def __init__(
        self,
        model: SequenceModel,
        settings: ReducerSettings,
        calibration: Calibration | None = None,
        progress: Progress = silent,
    ) -> None:
        self.model, self.settings, self.calibration = model, settings, calibration
        self.method = METHODS[settings.method]
        self.units = units_of(model)
        self.uses = [Use(horizon=settings.horizon or model.config.length)] * len(self.units)
        self.walk: Walk | None = None
        # By unit and order: what the method makes of it.
        self._starts: list[dict[int, _Reduction]] = [{} for _ in self.units]
        if calibration is not None:
            self._calibrate(calibration, progress)
        progress(1)

    # Before any size is known

    def _calibrate(self, calibration: Calibration, progress: Progress) -> None:
        horizon = self.settings.horizon or self.model.config.length
        self._observed = observe(self.model, calibration, lambda done: progress(0.4 * done))
        curves: list[Float] = []
        with torch.no_grad():
            passage = Passage(self._observed.model, self._observed.sample)
            for index, unit in enumerate(self.units):
                while passage.at < unit.block:
                    passage.advance()
                u = passage.inputs(unit.backward)
                self.uses[index] = self._observed.use(unit, u, horizon)
                if self.settings.allocated:
                    error = self._observed.layer_error(unit, u, u)
                    curves.append(self._curves(index, error))
                progress(0.4 + 0.6 * (index + 1) / len(self.units))
        if self.settings.allocated:
            states = np.concatenate([unit.stable.real_states for unit in self.units])
            known = np.broadcast_to([0, *_ORDERS], (len(states), len(_ORDERS) + 1))
            self.walk = walk(Curves(np.column_stack([known, states]), np.concatenate(curves)))

    def _curves(self, index: int, error: LayerError) -> Float:
        """(channels, orders) squared errors at 0, at `_ORDERS` and with all states."""
        unit = self.units[index]
        states = unit.stable.real_states
        starts = {order: self._start(index, order) for order in _ORDERS if order < states.max()}

        def curve(channels: Int) -> Float:
            (h,) = channels
            out = np.full(len(_ORDERS) + 2, np.nan)
            if states[h] == 0:
                out[0] = 0
                return out
            measured = error.channel(int(h)).mixed
            out[-1] = 0
            out[0] = self._error_at(unit, int(h), None, measured)
            for column, order in enumerate(_ORDERS, 1):
                if order < states[h]:
                    out[column] = self._error_at(unit, int(h), starts[order], measured)
            return out

        with threadpool_limits(1):
            return np.stack(map_blocks(curve, blocks_of(np.arange(len(states)), 1)))

    def _error_at(self, unit: Unit, h: int, start: _Reduction | None, error: KernelError) -> float:
        """Of one channel's start, as it will be used; None for no states."""
        modes = Modes.make([], [], [], 1) if start is None else _channel(start.modes, h)
        if self.settings.refined:
            free = unit.systems.config.feedthrough
            return solve_weights(
                error, MovablePoles.of(modes, _channel(unit.stable, h)), free
            ).error
        kernel = modes.at(error.lag)[0]
        D = None if start is None else start.feedthrough
        kernel[0] += float(unit.systems.D[h].detach()) if D is None else D[h]
        return max(error.of(kernel), 0.0)

    def _start(self, index: int, order: int) -> _Reduction:
        """What the method makes of all channels that have more states than ``order``."""
        if order not in self._starts[index]:
            unit = self.units[index]
            orders = np.minimum(order, unit.stable.real_states)
            self._starts[index][order] = self._reduced(index, orders)
        return self._starts[index][order]

    def _reduced(self, index: int, orders: Int) -> _Reduction:
        """The method on the channels that lose states; the others as they are."""
        unit = self.units[index]
        stable = unit.stable
        smaller = orders < stable.real_states
        untouched = stable.select(~smaller[stable.channel])
        bound, feedthrough = np.zeros(stable.channels), None
        some = np.flatnonzero(smaller & (orders > 0))
        parts = [untouched]
        gone = smaller & (orders == 0)
        bound[gone] = np.nan
        if len(some):
            # The matrices are small: BLAS threads would only wait for each other.
            with threadpool_limits(1):
                result = self.method.of(self.uses[index])(
                    stable.of_channels(some), orders[some], self.uses[index].of_channels(some)
                )
            bound[some] = result.error_bound
            if result.feedthrough is not None:
                feedthrough = unit.systems.D.detach().double().numpy().copy()
                feedthrough[some] += result.feedthrough
            parts.append(
                dataclasses.replace(
                    result.modes, channel=some[result.modes.channel], channels=stable.channels
                )
            )
        return _Reduction(Modes.concatenate(parts), feedthrough, bound)

    # To a size

    @property
    def largest_total(self) -> int:
        """Real states of all stable modes."""
        return int(sum(unit.stable.real_states.sum() for unit in self.units))

    def smallest_total(self, error: float) -> int:
        """The fewest real states whose predicted relative error of the output is at most that."""
        assert self.walk is not None
        found = self.walk.smallest_total(error**2 * (1 + 1e-12))
        return self.largest_total if found is None else max(found, 1)

    def predicted(self, totals: Int) -> Float:
        """Relative error of the model's output at totals of real states, as allocated."""
        assert self.walk is not None
        at = np.searchsorted(self.walk.total, totals, side="right") - 1
        return np.sqrt(self.walk.error[np.maximum(at, 0)])

    def to_state(self, state: int, progress: Progress = silent) -> SequenceModel:
        """Reduced to a state size, in the checkpoint's own count of ``d_state``.

        Raises:
            S4EdgeError: growing modes leave no room.
        """
        orders = [unit.uniform_orders(state) for unit in self.units]
        if self.settings.allocated:
            orders = self._allocated(int(sum(each.sum() for each in orders)))
        return self._to_orders(orders, {"state": state}, state, progress)

    def to_total(
        self, total: int, progress: Progress = silent, tolerance: float | None = None
    ) -> SequenceModel:
        """Reduced to a total of real states of stable modes, allocated."""
        told = {"state": None, "tolerance": tolerance}
        return self._to_orders(self._allocated(total), told, None, progress)

    def _allocated(self, total: int) -> list[Int]:
        assert self.walk is not None
        orders = self.walk.orders_within(total)
        states = np.concatenate([unit.stable.real_states for unit in self.units])
        starts = np.cumsum([unit.stable.channels for unit in self.units])[:-1]
        return np.split(np.minimum(orders, states), starts)

    def _to_orders(
        self, orders: list[Int], told: dict[str, Any], state: int | None, progress: Progress
    ) -> SequenceModel:
        small = copy.deepcopy(self.model)
        entry: dict[str, Any] = {
            "did": "compress",
            "method": self.settings.method,
            "allocate": "sensitivity" if self.settings.allocated else "uniform",
            "refine": self.settings.refined,
            **told,
        }
        if self.calibration is None:
            layers = []
            for index, unit in enumerate(self.units):
                reduction = self._by_method(index, orders[index])
                self._install(small, unit, orders[index], reduction, state)
                layers.append(_told(small, unit, reduction))
                progress((index + 1) / len(self.units))
        else:
            layers, errors = self._along_data(small, orders, state, progress)
            entry |= errors
        _set_configuration(small)
        small.provenance.history.append({**entry, "layers": layers})
        return small

    def _by_method(self, index: int, orders: Int) -> _Reduction:
        unique = np.unique(orders)
        same = len(unique) == 1
        result = self._start(index, int(unique[0])) if same and unique[0] else None
        return result or self._reduced(index, orders)

    def _install(
        self, small: SequenceModel, unit: Unit, orders: Int, reduction: _Reduction,
        state: int | None,
    ) -> DiagonalSystems:  # fmt: skip
        """Into the smaller model."""
        config = unit.systems.config
        size = (orders + unit.kept_states).sum() / unit.stable.channels / config.states_per_size
        if state is not None and not self.settings.allocated:
            size = min(state, config.state_size)
        systems = unit.with_modes(reduction.modes, reduction.feedthrough, round(float(size), 3))
        install(small.blocks[unit.block], unit, systems)
        return systems

    def _along_data(
        self, small: SequenceModel, orders: list[Int], state: int | None, progress: Progress
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Layer by layer on what the layers reduced so far deliver, then all together."""
        calibration = self.calibration
        assert calibration is not None
        with torch.no_grad():
            reductions, predicted = self._layer_by_layer(
                small, orders, state, part_of(progress, 0, 2)
            )
        _set_configuration(small)
        aim = self._observed.output
        output_error: dict[str, Any] = {"predicted": predicted[-1]}
        after = output_on(working_copy(small), calibration)
        found = relative_error(after, aim)
        if self.settings.refined and found > _NOT_LINEAR:
            output_error["layer_by_layer"] = found
            descend(small, self.model, calibration, aim, _DESCENT, part_of(progress, 1, 2))
            after = output_on(working_copy(small), calibration)
            found = relative_error(after, aim)
            # Nothing is known of its result but what can be measured.
            reductions = [
                _Reduction(stored.select(stored.is_stable), each.feedthrough, each.bound * np.nan)
                for stored, each in zip(
                    (systems_of(small, unit).modes() for unit in self.units),
                    reductions,
                    strict=True,
                )
            ]
        output_error["measured"] = found
        if aim.ndim == 2 and aim.shape[1] > 1:
            same = aim.argmax(dim=1) == after.argmax(dim=1)
            output_error["same_class"] = float(same.double().mean())
        layers = []
        measured = self._observed.error_by_unit(small, self.units)
        for unit, reduction, first_order, its in zip(
            self.units, reductions, predicted, measured, strict=True
        ):
            told = _told(small, unit, reduction)
            layers.append({**told, "output_error": {"predicted": first_order, "measured": its}})
        progress(1)
        return layers, {
            "calibration": {
                "source": calibration.source,
                "sequences": len(calibration),
                "given": calibration.given,
                "length": calibration.length,
            },
            "output_error": output_error,
        }

    def _layer_by_layer(
        self, small: SequenceModel, orders: list[Int], state: int | None, progress: Progress
    ) -> tuple[list[_Reduction], list[float]]:
        """Reduce each unit where it stands.

        Returns:
            What was done to each, and the relative error of the output that is predicted to first
            order with it and all earlier ones reduced.
        """
        working = working_copy(self.model)
        sample = self._observed.sample
        original, reached = Passage(self._observed.model, sample), Passage(working, sample)
        # What the layers reduced so far do to the projections of the output.
        change = np.zeros(len(self._observed.gradients.rows))
        reductions, predicted = [], []
        for index, unit in enumerate(self.units):
            while original.at < unit.block:
                original.advance()
                reached.advance()
            u = original.inputs(unit.backward)
            v = reached.inputs(unit.backward) if unit.block else u
            error = self._observed.layer_error(unit, u, v)
            reduction, its_change = self._fit(index, orders[index], error)
            systems = self._install(small, unit, orders[index], reduction, state)
            install(working.blocks[unit.block], unit, copy.deepcopy(systems).freeze_(torch.float32))
            change += its_change
            reductions.append(reduction)
            predicted.append(float(np.linalg.norm(change)))
            progress((index + 1) / len(self.units))
        return reductions, predicted

    def _fit(self, index: int, orders: Int, error: LayerError) -> tuple[_Reduction, Float]:
        """Reduce one unit; and its share of the first-order change of the output's projections."""
        unit = self.units[index]
        free = unit.systems.config.feedthrough
        reduction = self._by_method(index, orders)
        changed = np.flatnonzero(orders < unit.stable.real_states)
        D = error.feedthrough.copy()
        if reduction.feedthrough is not None:
            D = reduction.feedthrough.copy()

        def fit(channels: Int) -> tuple[Modes, float, Float]:
            h = int(channels[0])
            modes, feedthrough = _channel(reduction.modes, h), float(D[h])
            if self.settings.refined:
                measured = error.channel(h)
                projected, start = (
                    measured.projected,
                    MovablePoles.of(modes, _channel(unit.stable, h)),
                )
                found = refine(measured.mixed, start, free, _STEPS)
                zeros = np.zeros(len(found.weight), np.int64)
                modes = Modes.make(found.poles.log_pole, found.weight, zeros, 1)
                feedthrough = found.feedthrough if free else feedthrough
            else:
                projected = error.projected(h)
            kernel = modes.at(np.arange(error.lags))[0]
            kernel[0] += feedthrough
            return modes, feedthrough, projected.values(error.stable_kernel(h) - kernel)

        with threadpool_limits(1):
            fits = map_blocks(fit, blocks_of(changed, 1))
        parts = [reduction.modes.select(~np.isin(reduction.modes.channel, changed))]
        change = np.zeros(len(self._observed.gradients.rows))
        for h, (modes, feedthrough, its_change) in zip(changed, fits, strict=True):
            parts.append(
                dataclasses.replace(
                    modes, channel=np.full(len(modes.channel), h), channels=unit.stable.channels
                )
            )
            D[h] = feedthrough
            change += its_change
        bound = reduction.bound.copy()
        if self.settings.refined:
            bound[changed] = np.nan
        moved = self.settings.refined or reduction.feedthrough is not None
        return _Reduction(Modes.concatenate(parts), D if moved else None, bound), change


def _told(small: SequenceModel, unit: Unit, reduction: _Reduction) -> dict[str, Any]:
    """A layer's entry in the history."""
    systems = systems_of(small, unit)
    stored = systems.modes()
    shift = (systems.D - unit.systems.D).detach().double().numpy()
    certificates = certify(
        unit.stable, reduction.modes, stored.select(stored.is_stable), shift, reduction.bound
    )
    return {
        "name": unit.name,
        "real_states_before": unit.systems.config.real_states,
        "real_states_after": systems.config.real_states,
        "channel_real_states": stored.real_states.tolist(),
        **certificates.to_json(),
    }


def _set_configuration(model: SequenceModel) -> None:
    blocks = tuple(block.config for block in model.blocks)
    model.config = dataclasses.replace(model.config, blocks=blocks)


def _channel(modes: Modes, h: int) -> Modes:
    return modes.of_channels(np.array([h]))
