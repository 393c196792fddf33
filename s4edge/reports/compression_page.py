"""A report of a compression as one HTML file: what was done, what it costs, how it is known."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from s4edge.arrays import Float, Int
from s4edge.compression.states.methods.registry import find_method
from s4edge.compression.states.spectrum import Spectrum, model_spectra
from s4edge.compression.states.unit import Unit, units_of
from s4edge.compression.trade_off import TradeOff, trade_off
from s4edge.errors import MissingExtraError, S4EdgeError
from s4edge.files import check_writable, write_text
from s4edge.model.history import Compression, ReducedLayer, last_compression
from s4edge.model.sequence_model import SequenceModel
from s4edge.reports import compression_plots as report_plots
from s4edge.reports import page
from s4edge.systems.h2 import h2_distance
from s4edge.systems.modes import Modes

# Rows of the table of channels.
_MOST_ROWS = 300
# A kernel is drawn until so much of its energy is left, and up to so many samples.
_LEFT, _MOST_SAMPLES = 1e-4, 16384
_FEWEST_SAMPLES = 32


@dataclass(frozen=True)
class _Layer:
    """One layer's systems in one direction, before and after, and what its history tells."""

    before: Unit
    after: Unit
    told: ReducedLayer

    @property
    def name(self) -> str:
        return self.told.name

    def channel(self, name: str) -> Float:
        """(channels,) numbers of the history; nan where nothing is known."""
        return np.array([np.nan if x is None else x for x in getattr(self.told, name)], dtype=float)

    @property
    def orders_before(self) -> Int:
        return self.before.stable.real_states + self.before.kept_states

    @property
    def orders(self) -> Int:
        return np.asarray(self.told.channel_real_states, dtype=np.int64)

    @property
    def reduced(self) -> Int:
        """The channels that lost states or were changed otherwise."""
        changed = self.channel("channel_h2_error") != 0
        return np.flatnonzero((self.orders < self.orders_before) | changed)

    @property
    def h2_norm(self) -> Float:
        """(channels,) of the stable modes before."""
        nothing = Modes.make([], [], [], self.before.stable.channels)
        with threadpool_limits(1):
            return h2_distance(self.before.stable, nothing)


@dataclass(frozen=True)
class _Channel:
    """A reduced channel, by its H2 error relative to its kernel's H2 norm."""

    layer: _Layer
    index: int
    error: float


def check_report(path: Path) -> None:
    """Fail before any work if no report can be written there.

    Raises:
        S4EdgeError: the suffix is not .html, the folder cannot be written, or matplotlib is not
            installed.
    """
    if path.suffix.lower() != ".html":
        raise S4EdgeError(f"--report writes .html, by the file's suffix; {path} has not that one")
    check_writable(path)
    if find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "toolchain")


def write_report(
    path: Path,
    before: SequenceModel,
    after: SequenceModel,
    points: list[TradeOff],
    predicted: tuple[Int | Float, Float] | None = None,
    title: str = "",
) -> None:
    """Write the report of ``after``, which `compress_model` made of ``before``.

    Args:
        path: the file to write.
        before: left as it is.
        after: left as it is.
        points: sizes and what they cost, in any order; those of ``before`` and ``after`` may be
            among them.
        predicted: totals of real states and the output's relative errors predicted there.
        title: the model's name; by default its file's.

    Raises:
        S4EdgeError: as `check_report`, or ``after`` was not made of ``before``.
    """
    check_report(path)
    write_text(path, _page(before, after, points, predicted, title))


def _page(
    before: SequenceModel,
    after: SequenceModel,
    points: list[TradeOff],
    predicted: tuple[Int | Float, Float] | None,
    title: str,
) -> str:
    entry = _compression(after)
    layers = _layers(before, after, entry)
    points = points or [trade_off(after)]
    spectra = model_spectra(before)
    ranked = _ranked(layers)
    looked_at = before.config.length or _looked_at(entry)
    name = title or before.provenance.source or "model"
    sections = [
        ("trade-off", "Trade-off", _trade_off(before, after, entry, points, predicted, spectra)),
        ("hankel", "Hankel singular values by layer", _hankel(layers, entry, spectra)),
        ("budget", "Where the budget went", _budget(layers, entry)),
        ("kernels", "Kernels before and after", _kernels(ranked, looked_at)),
        ("poles", "Poles before and after", _poles(layers)),
        ("certificates", "Certificates", _certificates(ranked, layers, entry)),
    ]
    header = _headline(name, before, after, entry, points)
    return page.document(f"{name}: compression report", header, sections)


def _compression(after: SequenceModel) -> Compression:
    entry = last_compression(after.provenance.history)
    if entry is not None and entry.layers:
        return entry
    raise S4EdgeError(
        "there is nothing to report: the model's history has no compression with its layers"
    )


def _layers(before: SequenceModel, after: SequenceModel, entry: Compression) -> list[_Layer]:
    old, new, told = units_of(before), units_of(after), entry.layers
    names = [[unit.name for unit in units] for units in (old, new)]
    if not names[0] == names[1] == [layer.name for layer in told]:
        raise S4EdgeError(
            "the report's two models do not belong together: their layers have other names"
        )
    return [_Layer(*each) for each in zip(old, new, told, strict=True)]


def _ranked(layers: list[_Layer]) -> list[_Channel]:
    """All reduced channels, the worst first."""
    out = []
    for layer in layers:
        error, norm = layer.channel("channel_h2_error"), layer.h2_norm
        for h in layer.reduced:
            # What had no output has lost nothing.
            share = error[h] / norm[h] if norm[h] else 0.0
            out.append(_Channel(layer, int(h), float(share)))
    return sorted(out, key=lambda channel: -channel.error)


# 1. What it is


def _headline(
    name: str,
    before: SequenceModel,
    after: SequenceModel,
    entry: Compression,
    points: list[TradeOff],
) -> str:
    old_states, new_states = before.config.real_states, after.config.real_states
    old_size, new_size = before.config.average_state_size, after.config.average_state_size
    old_count, new_count = before.parameter_count(), after.parameter_count()
    average = "on average" if entry.allocate == "sensitivity" else ""
    facts = [
        ("State size", _from_to(old_size, new_size), average),
        ("Real states", _from_to(old_states, new_states), _part(new_states, old_states)),
        ("Parameters", _from_to(old_count, new_count), _part(new_count, old_count)),
    ]
    error = entry.output_error
    if error:
        told = "" if error.predicted is None else f"predicted {_percent(error.predicted)}"
        facts.append(("Output error", _percent(error.measured), told))
        if error.same_class is not None:
            facts.append(("Same class as before", _percent(error.same_class), ""))
    scored = {point.real_states: point for point in points if point.value is not None}
    if new_states in scored:
        now, was = scored[new_states], scored.get(old_states)
        told = f"before {_metric(was)}" if was and old_states != new_states else ""
        facts.append((_metric_name(now), _metric(now), told))
    return f"<h1>{escape(name)}</h1>\n<p>{_sentence(entry)}</p>\n{page.tiles(facts)}" + (
        '<p class="quiet">The output error is |y − y′| / |y| of the model’s output y on the '
        "calibration data.</p>"
        if error
        else ""
    )


def _sentence(entry: Compression) -> str:
    """What was done."""
    text = "Reduced by " + escape(find_method(entry.method).told)
    calibration = entry.calibration
    if calibration:
        count, given = calibration.sequences, calibration.given
        of = f" of {given:,}" if given and given != count else ""
        text += f", calibrated on {count:,}{of} sequences of {escape(calibration.source)}"
    else:
        text += ", without calibration data"
    if entry.tolerance is not None:
        text += f", to an output error of at most {_percent(entry.tolerance)}"
    text += (
        "; states were spent over all channels of all layers where the model’s output needs them"
        if entry.allocate == "sensitivity"
        else "; every channel keeps the same state size"
    )
    if entry.refine:
        text += (
            "; poles, weights and D were then refined, layer by layer, to bring each layer’s "
            "output on that data close to the original’s"
        )
    return text + "."


# 2. What a size costs


def _trade_off(
    before: SequenceModel,
    after: SequenceModel,
    entry: Compression,
    points: list[TradeOff],
    predicted: tuple[Int | Float, Float] | None,
    spectra: list[Spectrum],
) -> str:
    chosen = next((p for p in points if p.real_states == after.config.real_states), None)
    points = sorted(points, key=lambda point: -point.real_states)
    figures = []
    measured = [(float(p.real_states), p.output_error) for p in points if p.output_error]
    curve = None
    if predicted is not None:
        x, y = (np.asarray(each, dtype=float) for each in predicted)
        seen = (x > 0) & (y > 0) & np.isfinite(y)
        curve = (x[seen], y[seen]) if seen.sum() > 1 else None
    if len(measured) > 1 or (measured and curve):
        figures.append(
            page.figure(
                "Output error against real states",
                "Left is smaller, down is better. "
                + ("The grey line is predicted before any reduction; points are measured." if curve
                   else "Points are measured."),
                report_plots.trade_off(
                    measured, _at(chosen, "output_error"), curve, "relative output error"
                ),
            )
        )  # fmt: skip
    metrics = sorted({p.metric for p in points if p.metric and p.value is not None})
    for metric in metrics:
        scored = [p for p in points if p.metric == metric and p.value is not None]
        if len(scored) > 1:
            best = "up" if metric == "accuracy" else "down"
            figures.append(
                page.figure(
                    f"{_metric_name(scored[0])} against real states",
                    f"Left is smaller, {best} is better.",
                    report_plots.trade_off(
                        [(float(p.real_states), float(p.value or 0)) for p in scored],
                        _at(chosen, "value") if chosen in scored else None,
                        None, metric, percent=metric == "accuracy",
                    ),
                )
            )  # fmt: skip
    if not measured:
        figures.append(_promise(after, entry, spectra))
    text = []
    if len(points) == 1:
        text.append("<p>One size was made; <code>s4edge sweep</code> draws the curve.</p>")
    table = _points_table(points, chosen) if len(points) > 1 else ""
    text.append(f'<div class="beside">{"".join(figures)}{table}</div>')
    if not measured:
        text.append(
            '<p class="quiet">Without calibration data the error of the model’s output is not '
            "known; what theory promises is of each channel by itself.</p>"
        )
    return "\n".join(text)


def _at(point: TradeOff | None, key: str) -> tuple[float, float] | None:
    value = None if point is None else getattr(point, key)
    return None if point is None or not value else (float(point.real_states), float(value))


def _promise(after: SequenceModel, entry: Compression, spectra: list[Spectrum]) -> str:
    """Bounds of the median channel's error at every state size."""
    spectra = [spectrum for spectrum in spectra if len(spectrum.hankel)]
    largest = max((spectrum.systems.state_size for spectrum in spectra), default=0)
    found = []
    for size in range(1, int(largest)):
        bounds = [spectrum.bounds(size) for spectrum in spectra]
        # Growing modes are kept and leave no room for small sizes.
        if None not in bounds:
            lower, upper = (
                float(np.median(np.concatenate([each[side] for each in bounds if each])))
                for side in (0, 1)
            )
            if lower > 1e-16:
                found.append((size, lower, upper))
    if len(found) < 2:
        return ""
    sizes, lowers, uppers = np.array(found).T
    state = entry.state if entry.allocate != "sensitivity" else None
    return page.figure(
        "What theory promises of the median channel",
        "H-infinity error relative to the largest Hankel singular value: no method comes below "
        "the blue line, balanced truncation stays below the grey one.",
        report_plots.promised(sizes, lowers, uppers, state),
    )


def _points_table(points: list[TradeOff], chosen: TradeOff | None) -> str:
    known = {
        key: any(getattr(p, key) is not None for p in points)
        for key in ("state", "output_error", "predicted", "value")
    }
    head = ["real states", *["state size"] * known["state"], "parameters"]
    head += ["output error"] * known["output_error"] + ["predicted"] * known["predicted"]
    head += [_metric_name(p).lower() for p in points if p.value is not None][:1]
    rows = []
    for p in points:
        row = [_count(p.real_states)]
        row += [_number(p.state)] * known["state"] + [_count(p.parameters)]
        row += [_fraction(p.output_error)] * known["output_error"]
        row += [_fraction(p.predicted)] * known["predicted"]
        row += [_metric(p)] * known["value"]
        rows.append(row)
    marked = [index for index, p in enumerate(points) if p is chosen]
    return page.table(head, rows, dict.fromkeys(marked, "chosen"))


# 3. Hankel singular values


def _hankel(layers: list[_Layer], entry: Compression, spectra: list[Spectrum]) -> str:
    by_name = {layer.name: layer for layer in layers}
    shown = [spectrum for spectrum in spectra if len(spectrum.hankel)]
    figures = []
    lowest = report_plots.lowest_value(shown) if shown else 1e-3
    for spectrum in shown:
        layer = by_name[spectrum.name]
        kept = (layer.after.stable.real_states)[spectrum.loud]
        channels = len(spectrum.hankel)
        note = f"{channels:,} channels" if channels > 1 else "1 channel"
        if spectrum.growing:
            note += f"; {spectrum.growing:,} growing modes have none and are kept"
        figures.append(
            page.figure(
                escape(spectrum.name), note, report_plots.hankel_values(spectrum, kept, lowest)
            )
        )
    missing = [layer.name for layer in layers if layer.name not in {s.name for s in shown}]
    text = (
        "<p>How much each further state of a channel matters, relative to its first: grey lines "
        "are channels, the bold blue one their median; a steep fall means that few states are "
        "enough."
    )
    if entry.calibration or not find_method(entry.method).cuts_by_hankel:
        text += (
            " This reduction did not cut by these values"
            + (", but by what matters on the calibration data" if entry.calibration else "")
            + ": the marks show the orders kept and need not be where a line is low."
        )
    else:
        text += " What lies to the right of a mark was cut; without a mark nothing was."
    text += "</p>"
    if missing:
        text += f"<p>Without stable modes that are heard: {escape(', '.join(missing))}.</p>"
    return text + page.grid(figures)


# 4. Where the budget went


def _budget(layers: list[_Layer], entry: Compression) -> str:
    orders = np.concatenate([layer.orders for layer in layers])
    if len(orders) and (orders == orders[0]).all():
        text = f"<p>Every channel of every layer keeps {int(orders[0]):,} real states.</p>"
        figure = ""
    else:
        text = ""
        figure = page.figure(
            "Real states kept, channel by channel",
            "A row is a layer, its channels sorted by what they keep; the fuller the colour, the "
            "more, and empty is none.",
            report_plots.budget(
                [layer.name for layer in layers], [layer.orders for layer in layers]
            ),
        )
    calibrated = any(layer.told.output_error for layer in layers)
    head = ["layer", "real states", "kept", "H-infinity error,<br>median channel"]
    head += ["worst<br>channel", "largest<br>bound", "largest<br>lower bound"]
    head += ["output error,<br>predicted", "output error,<br>measured"] * calibrated
    rows = []
    for layer in layers:
        told = layer.told
        error = np.sort(layer.channel("channel_error"))
        row = [
            escape(layer.name),
            _from_to(told.real_states_before, told.real_states_after),
            _part(told.real_states_after, told.real_states_before, ""),
            _data(error[len(error) // 2]),
            _data(_largest(error)),
            _data(_largest(layer.channel("channel_error_bound"))),
            _data(_largest(layer.channel("channel_lower_bound"))),
        ]
        if calibrated:
            output = told.output_error
            found = (None, None) if output is None else (output.predicted, output.measured)
            row += [_fraction(each) for each in found]
        rows.append(row)
    if len(layers) > 1:
        old = sum(layer.told.real_states_before for layer in layers)
        new = sum(layer.told.real_states_after for layer in layers)
        total = ["all", _from_to(old, new), _part(new, old, "")]
        rows.append([*total, *[""] * (len(head) - len(total))])
    text += f'<div class="beside">{figure}{page.table(head, rows, {len(layers): "total"})}</div>'
    text += (
        '<p class="quiet">H-infinity errors are measured on what is stored, the largest gain of a '
        "channel’s error over all frequencies; each is below its bound, and no reduction to these "
        "orders is below the lower bound in the worst channel."
    )
    if calibrated:
        text += (
            " A layer’s output error is the whole model’s, with this and all earlier layers "
            "reduced."
        )
    return text + "</p>" + _endless(layers, entry)


def _endless(layers: list[_Layer], entry: Compression) -> str:
    """A warning where a refined channel's error is not of the sequences' length."""
    if not entry.refine:
        return ""
    large = sum(int((layer.channel("channel_h2_error") > layer.h2_norm).sum()) for layer in layers)
    if not large:
        return ""
    return (
        f'<p class="note">In {large:,} channels the error over all time is larger than the kernel '
        "itself. Refinement looks at the length of the calibration sequences only: there the "
        "output error above holds, in a longer stream it may not.</p>"
    )


# 5. Kernels


def _looked_at(entry: Compression) -> int | None:
    """Samples of a sequence that refinement saw, or None where there was none."""
    return entry.calibration.length if entry.refine and entry.calibration else None


def _kernels(ranked: list[_Channel], length: int | None) -> str:
    if not ranked:
        return "<p>No channel was reduced: all kernels are as they were.</p>"
    picks = {"Best": len(ranked) - 1, "Median": len(ranked) // 2, "Worst": 0}
    names: dict[int, str] = {}
    for label, index in picks.items():
        names[index] = f"{names[index]} and {label.lower()}" if index in names else label
    figures = [_kernel(ranked[index], label, length) for index, label in names.items()]
    return (
        "<p>Impulse responses of the best, the median and the worst reduced channel, by the H2 "
        "error over all time relative to the kernel’s H2 norm: grey is before, blue is after, "
        "below is the difference; the axis ends where the kernel has decayed.</p>"
        + page.grid(figures)
    )


def _kernel(channel: _Channel, label: str, length: int | None) -> str:
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
    seen = float(np.sqrt(((after - before) ** 2).sum() / energy)) if energy else 0.0
    return page.figure(
        f"{label}: {escape(layer.name)}, channel {h}",
        f"order {layer.orders_before[h]:,} → {layer.orders[h]:,}; relative H2 error "
        f"{_fraction(channel.error)}, over the {len(before):,} samples drawn {_fraction(seen)}",
        report_plots.kernels(before, after),
    )


def _decayed(kernel: Float) -> int:
    """Samples until next to no energy is left."""
    left = np.cumsum(kernel[::-1] ** 2)[::-1]
    gone = np.flatnonzero(left <= _LEFT * left[0])
    return max(int(gone[0]) if len(gone) else len(kernel), min(_FEWEST_SAMPLES, len(kernel)))


# 6. Poles


def _poles(layers: list[_Layer]) -> str:
    figures = []
    for layer in layers:
        before, after = (unit.systems.modes() for unit in (layer.before, layer.after))
        if len(before.pole):
            note = f"slowest decay, samples: {_slowest(before)} → {_slowest(after)}"
            figures.append(
                page.figure(escape(layer.name), note, report_plots.poles(before.pole, after.pole))
            )
    return (
        "<p>Eigenvalues a of the discrete systems, one of each conjugate pair, in the upper half "
        "of the unit disk: grey is before, blue is after; near the circle is slow to decay, far "
        "from the right end is fast to swing.</p>" + page.grid(figures)
    )


def _slowest(modes: Modes) -> str:
    """The time constant of the stable mode that decays last."""
    rate = -modes.log_pole.real[modes.is_stable]
    return _number(1 / float(rate.min())) if len(rate) else "none"


# 7. Certificates


def _certificates(ranked: list[_Channel], layers: list[_Layer], entry: Compression) -> str:
    total = sum(layer.before.stable.channels for layer in layers)
    untouched = total - len(ranked)
    whole = f" {_channels(untouched)} of {total:,} lost nothing." if untouched else ""
    if not ranked:
        return f"<p>No channel was reduced: all {total:,} are kept to the bit.</p>"
    keys = ("channel_error", "channel_error_bound", "channel_lower_bound")
    numbers = {id(layer): [layer.channel(key) for key in keys] for layer in layers}
    head = ["layer", "channel", "order", "H-infinity<br>error", "bound", "lower<br>bound"]
    head += ["relative<br>H2 error"]
    rows = []
    for channel in ranked[:_MOST_ROWS]:
        layer, h = channel.layer, channel.index
        rows.append(
            [
                escape(layer.name),
                str(h),
                _from_to(int(layer.orders_before[h]), int(layer.orders[h])),
                *(_data(values[h]) for values in numbers[id(layer)]),
                _fraction(channel.error),
            ]
        )
    left_out = len(ranked) - len(rows)
    more = f" The {left_out:,} better ones are left out." if left_out else ""
    return (
        "<p>For each reduced channel the measured H-infinity error, an upper bound of it, and the "
        "next Hankel singular value, below which no system of that order comes; the worst by "
        f"relative H2 error come first.{whole}</p>"
        f"<details><summary>{_channels(len(rows))}</summary>{page.table(head, rows)}"
        f'<p class="quiet">All are in the compressed model’s file.{more}</p></details>'
    )


def _channels(count: int) -> str:
    return f"{count:,} channel" + ("" if count == 1 else "s")


# Numbers


def _number(value: float | None) -> str:
    if value is None or np.isnan(value):
        return "–"
    if np.isinf(value):
        return "∞"
    if float(value).is_integer() and abs(value) < 1e6:
        return f"{value:,.0f}"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")
    digits, power = f"{value:.2e}".split("e")
    return f"{digits} × 10<sup>{int(power)}</sup>"


def _data(value: float | None) -> str:
    """A number for people, with all its digits for programs."""
    if value is None or not np.isfinite(value):
        return _number(value)
    return f'<data value="{float(value)!r}">{_number(float(value))}</data>'


def _count(value: int) -> str:
    return f'<data value="{value}">{value:,}</data>'


def _percent(value: float) -> str:
    share = 100 * value
    if 1e-3 <= share < 0.1:
        return f"{share:.2g} %"
    if share < 1e-3 or share >= 1e4:
        return f"{_number(share)} %"
    return f"{share:.2f} %" if share < 10 else f"{share:,.1f} %"


def _fraction(value: float | None) -> str:
    """A share in percent, with all its digits for programs."""
    if value is None or not np.isfinite(value):
        return _number(value)
    return f'<data value="{float(value)!r}">{_percent(value)}</data>'


def _part(new: int, old: int, of: str = " of before") -> str:
    return f"{_percent(new / old)}{of}" if old else ""


def _from_to(old: float, new: float) -> str:
    return f"{_number(old)} → {_number(new)}"


def _largest(values: Float) -> float:
    """Of what is known."""
    known = values[~np.isnan(values)]
    return float(known.max()) if len(known) else float("nan")


def _metric_name(point: TradeOff) -> str:
    names = {"accuracy": "Accuracy", "mse": "Mean squared error"}
    return escape(names.get(str(point.metric), str(point.metric)))


def _metric(point: TradeOff | None) -> str:
    if point is None or point.value is None:
        return "–"
    return _fraction(point.value) if point.metric == "accuracy" else _data(point.value)
