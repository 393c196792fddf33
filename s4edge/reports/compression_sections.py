"""What the sections of a compression's report are filled with; each function feeds one template."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from s4edge.arrays import Float, Int
from s4edge.compression.states.spectrum import Spectrum
from s4edge.compression.trade_off import TradeOff
from s4edge.model.history import Compression
from s4edge.model.sequence_model import SequenceModel
from s4edge.reports.figures.budget import budget
from s4edge.reports.figures.drawing import new_figure
from s4edge.reports.figures.hankel import draw_hankel_values, lowest_value, mark_orders
from s4edge.reports.figures.inline import drawn, inline
from s4edge.reports.figures.kernels import kernels
from s4edge.reports.figures.poles import Cloud, draw_poles
from s4edge.reports.figures.promised import promised
from s4edge.reports.figures.trade_off import Point, draw_trade_off
from s4edge.reports.frame import Html, count, exact, html
from s4edge.reports.numbers import from_to, number, percent
from s4edge.reports.reduced_layers import LayerPair, ReducedChannel
from s4edge.systems.modes import Modes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Rows of the table of channels.
_MOST_ROWS = 300
# A kernel is drawn until so much of its energy is left, and up to so many samples.
_LEFT, _MOST_SAMPLES = 1e-4, 16384
_FEWEST_SAMPLES = 32

Facts = dict[str, Any]


@dataclass(frozen=True)
class Reported:
    """All that the sections look at.

    Attributes:
        name: the model's.
        before: the model.
        after: the compressed one.
        entry: of its history.
        layers: of both models.
        worst_first: the channels that were reduced.
        points: sizes and what they cost; one or more.
        predicted: totals of real states and relative errors predicted there.
        spectra: of the layers before that have Hankel singular values.
    """

    name: str
    before: SequenceModel
    after: SequenceModel
    entry: Compression
    layers: list[LayerPair]
    worst_first: list[ReducedChannel]
    points: list[TradeOff]
    predicted: tuple[Int | Float, Float] | None
    spectra: list[Spectrum]

    @property
    def chosen(self) -> TradeOff | None:
        """The point of the compressed model."""
        states = self.after.config.real_states
        return next((p for p in self.points if p.real_states == states), None)


def summary_facts(told: Reported) -> Facts:
    """What it is, in tiles."""
    before, after, entry, error = told.before, told.after, told.entry, told.entry.output_error
    old_size, new_size = before.config.average_state_size, after.config.average_state_size
    old_states, new_states = before.config.real_states, after.config.real_states
    old_count, new_count = before.parameter_count(), after.parameter_count()
    average = "on average" if entry.allocate == "sensitivity" else ""
    tiles = [
        ("State size", from_to(old_size, new_size), average),
        ("Real states", from_to(old_states, new_states), _part(new_states, old_states)),
        ("Parameters", from_to(old_count, new_count), _part(new_count, old_count)),
    ]
    if error:
        predicted = "" if error.predicted is None else f"predicted {percent(error.predicted)}"
        tiles.append(("Output error", percent(error.measured), predicted))
        if error.same_class is not None:
            tiles.append(("Same class as before", percent(error.same_class), ""))
    scored = {point.real_states: point for point in told.points if point.value is not None}
    if new_states in scored:
        now, was = scored[new_states], scored.get(old_states)
        tiles.append(
            (
                _metric_name(now),
                _metric(now),
                html("before ", _metric(was)) if was and old_states != new_states else "",
            )
        )
    return {"name": told.name, "facts": tiles}


def trade_off_facts(told: Reported) -> Facts:
    """What a size costs."""
    chosen = told.chosen
    points = sorted(told.points, key=lambda point: -point.real_states)
    measured = [(float(p.real_states), p.output_error) for p in points if p.output_error]
    curve = None
    if told.predicted is not None:
        x, y = (np.asarray(each, dtype=float) for each in told.predicted)
        seen = (x > 0) & (y > 0) & np.isfinite(y)
        curve = (x[seen], y[seen]) if seen.sum() > 1 else None
    columns = _columns(points)
    error_curve = None
    if len(measured) > 1 or (measured and curve):
        label, at = "relative output error", _at(chosen, "output_error")
        error_curve = drawn(
            2.6, lambda axes: draw_trade_off(axes, measured, label, curve=curve, chosen=at)
        )
    return {
        "points": points,
        "measured": measured,
        "curve": curve,
        "error_curve": error_curve,
        "scores": [
            _score(points, metric, chosen)
            for metric in sorted({p.metric for p in points if p.metric and p.value is not None})
            if sum(p.metric == metric and p.value is not None for p in points) > 1
        ],
        "promise": None if measured else _promise(told),
        "head": [heading for heading, _ in columns],
        "rows": [[cell(point) for _, cell in columns] for point in points],
        "chosen": points.index(chosen) if chosen else None,
    }


def _score(points: list[TradeOff], metric: str, chosen: TradeOff | None) -> Facts:
    scored = [p for p in points if p.metric == metric and p.value is not None]
    values = [(float(p.real_states), float(p.value or 0)) for p in scored]
    at = _at(chosen, "value") if chosen in scored else None
    percent = metric == "accuracy"
    picture = drawn(
        2.6, lambda axes: draw_trade_off(axes, values, metric, chosen=at, percent=percent)
    )
    best = "up" if metric == "accuracy" else "down"
    return {"name": _metric_name(scored[0]), "best": best, "picture": picture}


def _at(point: TradeOff | None, key: str) -> Point | None:
    value = None if point is None else getattr(point, key)
    return None if point is None or not value else (float(point.real_states), float(value))


def _promise(told: Reported) -> Html | None:
    """Bounds of the median channel's error at every state size."""
    largest = max((spectrum.systems.state_size for spectrum in told.spectra), default=0)
    found = []
    for size in range(1, int(largest)):
        bounds = [spectrum.bounds(size) for spectrum in told.spectra]
        # Growing modes are kept and leave no room for small sizes.
        if None not in bounds:
            lower, upper = (
                float(np.median(np.concatenate([each[side] for each in bounds if each])))
                for side in (0, 1)
            )
            if lower > 1e-16:
                found.append((size, lower, upper))
    if len(found) < 2:
        return None
    sizes, lowers, uppers = np.array(found).T
    return promised(
        sizes, lowers, uppers, told.entry.state if told.entry.allocate != "sensitivity" else None
    )


def _columns(points: list[TradeOff]) -> list[tuple[str, Callable[[TradeOff], str]]]:
    """Headings and cells of what is known of any point."""
    metric = next((_metric_name(p).lower() for p in points if p.value is not None), "")
    columns: list[tuple[str, str, Callable[[TradeOff], str]]] = [
        ("real_states", "real states", lambda p: count(p.real_states)),
        ("state", "state size", lambda p: number(p.state)),
        ("parameters", "parameters", lambda p: count(p.parameters)),
        ("output_error", "output error", lambda p: fraction(p.output_error)),
        ("predicted", "predicted", lambda p: fraction(p.predicted)),
        ("value", metric, _metric),
    ]
    return [
        (heading, cell)
        for key, heading, cell in columns
        if any(getattr(point, key) is not None for point in points)
    ]


def hankel_facts(told: Reported) -> Facts:
    """How much further states matter."""
    by_name = {layer.name: layer for layer in told.layers}
    lowest = lowest_value(told.spectra)
    shown = []
    for spectrum in told.spectra:
        kept = by_name[spectrum.name].after.stable.real_states[spectrum.loud]
        picture = drawn(2.5, partial(_draw_hankel, spectrum=spectrum, kept=kept, lowest=lowest))
        shown.append({"spectrum": spectrum, "picture": picture})
    seen = {spectrum.name for spectrum in told.spectra}
    return {"shown": shown, "missing": [name for name in by_name if name not in seen]}


def _draw_hankel(axes: Axes, spectrum: Spectrum, kept: Int, lowest: float) -> None:
    draw_hankel_values(axes, spectrum, lowest)
    mark_orders(axes, spectrum, kept, lowest)
    axes.legend(loc="lower left")


def budget_facts(told: Reported) -> Facts:
    """Where the budget went."""
    layers = told.layers
    orders = np.concatenate([layer.orders for layer in layers])
    same = len(orders) > 0 and bool((orders == orders[0]).all())
    calibrated = any(layer.told.output_error for layer in layers)
    head = ["layer", "real states", "kept", "H-infinity error,\nmedian channel"]
    head += ["worst\nchannel", "largest\nbound", "largest\nlower bound"]
    head += ["output error,\npredicted", "output error,\nmeasured"] * calibrated
    rows = [_budget_row(layer, calibrated) for layer in layers]
    if len(layers) > 1:
        old = sum(layer.told.real_states_before for layer in layers)
        new = sum(layer.told.real_states_after for layer in layers)
        total = ["all", from_to(old, new), _part(new, old, "")]
        rows.append([*total, *[""] * (len(head) - len(total))])
    return {
        "order": int(orders[0]) if same else None,
        "picture": None if same else budget([layer.name for layer in layers],
                                            [layer.orders for layer in layers]),
        "calibrated": calibrated,
        "head": head,
        "rows": rows,
        "total": len(layers),
        "endless": _endless(layers) if told.entry.refine else 0,
    }  # fmt: skip


def _budget_row(layer: LayerPair, calibrated: bool) -> list[str]:
    old, new = layer.told.real_states_before, layer.told.real_states_after
    error = np.sort(layer.channel("channel_error"))
    row = [layer.name, from_to(old, new), _part(new, old, ""), _data(error[len(error) // 2])]
    keys = ("channel_error", "channel_error_bound", "channel_lower_bound")
    row += [_data(layer.largest(key)) for key in keys]
    if calibrated:
        output = layer.told.output_error
        found = (None, None) if output is None else (output.predicted, output.measured)
        row += [fraction(each) for each in found]
    return row


def _endless(layers: list[LayerPair]) -> int:
    """The channels that lose more than all they had, over all time."""
    return sum(int((layer.channel("channel_h2_error") > layer.h2_norm).sum()) for layer in layers)


def kernel_facts(told: Reported) -> Facts:
    """The best, the median and the worst reduced channel, before and after."""
    ranked, entry = told.worst_first, told.entry
    if not ranked:
        return {"shown": []}
    picks = {"Best": len(ranked) - 1, "Median": len(ranked) // 2, "Worst": 0}
    names: dict[int, str] = {}
    for label, index in picks.items():
        names[index] = f"{names[index]} and {label.lower()}" if index in names else label
    # What refinement saw of a sequence is all that was asked of it.
    length = entry.calibration.length if entry.refine and entry.calibration else None
    length = told.before.config.length or length
    return {"shown": [_kernel(ranked[index], label, length) for index, label in names.items()]}


def _kernel(channel: ReducedChannel, label: str, length: int | None) -> Facts:
    layer, h = channel.layer, channel.index
    old, new = layer.before.systems, layer.after.systems
    only = np.array([h])
    samples = length or old.config.kernel_length or old.length or _MOST_SAMPLES
    before = old.modes().of_channels(only).kernel(min(samples, _MOST_SAMPLES))[0]
    before = before[: _decayed(before)]
    after = new.modes().of_channels(only).kernel(len(before))[0]
    # A feed-through is the kernel's part at lag 0.
    after[0] += float(new.D.detach()[h]) - float(old.D.detach()[h])
    energy = float((before**2).sum())
    return {
        "label": label,
        "layer": layer.name,
        "channel": h,
        "before": int(layer.orders_before[h]),
        "after": int(layer.orders[h]),
        "error": channel.error,
        "samples": len(before),
        "seen": float(np.sqrt(((after - before) ** 2).sum() / energy)) if energy else 0.0,
        "picture": kernels(before, after),
    }


def _decayed(kernel: Float) -> int:
    """Samples until next to no energy is left."""
    left = np.cumsum(kernel[::-1] ** 2)[::-1]
    gone = np.flatnonzero(left <= _LEFT * left[0])
    return max(int(gone[0]) if len(gone) else len(kernel), min(_FEWEST_SAMPLES, len(kernel)))


def pole_facts(told: Reported) -> Facts:
    """Eigenvalues, before and after."""
    shown = []
    for layer in told.layers:
        before, after = (unit.systems.modes() for unit in (layer.before, layer.after))
        if len(before.pole):
            clouds = [Cloud(before.pole, "before", old=True), Cloud(after.pole, "after")]
            slowest = f"{_slowest(before)} → {_slowest(after)}"
            shown.append({"layer": layer.name, "slowest": slowest, "picture": _poles(clouds)})
    return {"shown": shown}


def _poles(clouds: list[Cloud]) -> Html:
    with new_figure(2.55) as figure:
        draw_poles(figure.subplots(), clouds, "grows, kept")
        legend = figure.legend(loc="outside upper center", ncols=3, markerscale=1.6)
        for handle in legend.legend_handles:
            if handle is not None:
                handle.set_alpha(1)
        return inline(figure)


def _slowest(modes: Modes) -> str:
    """The time constant of the stable mode that decays last."""
    rate = -modes.log_pole.real[modes.is_stable]
    return number(1 / float(rate.min())) if len(rate) else "none"


def certificate_facts(told: Reported) -> Facts:
    """What is known of each reduced channel."""
    keys = ("channel_error", "channel_error_bound", "channel_lower_bound")
    values = {layer.name: [layer.channel(key) for key in keys] for layer in told.layers}
    rows = []
    for channel in told.worst_first[:_MOST_ROWS]:
        layer, h = channel.layer, channel.index
        order = from_to(int(layer.orders_before[h]), int(layer.orders[h]))
        known = [_data(each[h]) for each in values[layer.name]]
        rows.append([layer.name, str(h), order, *known, fraction(channel.error)])
    head = ["layer", "channel", "order", "H-infinity\nerror", "bound", "lower\nbound"]
    return {
        "channels": sum(layer.before.stable.channels for layer in told.layers),
        "reduced": len(told.worst_first),
        "head": [*head, "relative\nH2 error"],
        "rows": rows,
    }


# Cells


def fraction(value: float | None) -> str:
    """A share in percent, with all its digits for programs."""
    return exact(value, percent(value))


def _data(value: float | None) -> str:
    return exact(value, number(value))


def _part(new: int, old: int, of: str = " of before") -> str:
    return f"{percent(new / old)}{of}" if old else ""


def _metric_name(point: TradeOff) -> str:
    names = {"accuracy": "Accuracy", "mse": "Mean squared error"}
    return names.get(str(point.metric), str(point.metric))


def _metric(point: TradeOff) -> str:
    return fraction(point.value) if point.metric == "accuracy" else _data(point.value)
