"""Figures of the report as inline SVG that takes its colours from the page's style sheet.

Every figure is drawn narrow, so that its text is legible on a phone; the page lays them out.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from s4edge.arrays import Complex, Float, Int
from s4edge.compression.states.spectrum import Spectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Each stands for a variable of page.css, and in a browser without them for itself.
INK, MUTED, FAINT, CARD = "#24292e", "#68717a", "#dfe3e7", "#fefefe"
BEFORE, AFTER, MARK = "#a9b2bb", "#1f5fa8", "#c8402e"
_VARIABLES = {
    INK: "ink", MUTED: "muted", FAINT: "faint", CARD: "card",
    BEFORE: "before", AFTER: "after", MARK: "mark",
}  # fmt: skip
# In pixels no variable is heard: these are legible on light and on dark.
_BEFORE_PIXELS, _AFTER_PIXELS = "#8b96a1", "#3480cc"
_WIDTH = 4.0
_DPI = 150
# More coordinates or markers than this are drawn as pixels.
_MOST_POINTS, _MOST_MARKERS = 6000, 500
# Hankel singular values further down are rounding.
_FLOOR = 1e-16
# Bins of a long line; each keeps its smallest and its largest value.
_BINS = 500
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def trade_off(
    points: list[tuple[float, float]],
    chosen: tuple[float, float] | None,
    curve: tuple[Float, Float] | None,
    label: str,
    percent: bool = False,
) -> str:
    """A quantity against real states.

    Args:
        points: measured, real states and value.
        chosen: the one of the compressed model.
        curve: predicted real states and values, or None.
        label: of the quantity.
        percent: whether it is a fraction to be shown in percent on a linear axis; else it is
            drawn on a logarithmic one.
    """
    with _styled() as figure_of:
        figure = figure_of(2.6)
        axes = figure.subplots()
        _grid(axes)
        scale = 100.0 if percent else 1.0
        if curve is not None:
            x, y = _thinned(*curve)
            axes.plot(x, y * scale, color=BEFORE, linewidth=1.8, label="predicted")
        some = sorted(points)
        x, y = (np.array(each, dtype=float) for each in zip(*some, strict=True))
        axes.plot(
            x, y * scale, color=AFTER, linewidth=1, marker="o", markersize=4.5, label="measured",
            linestyle="-" if len(some) > 2 else "none",
        )  # fmt: skip
        if chosen is not None and len(some) > 1:
            axes.plot(
                [chosen[0]], [chosen[1] * scale], color=MARK, marker="o", markersize=9,
                markerfacecolor="none", markeredgewidth=1.5, linestyle="none", label="this model",
            )  # fmt: skip
        _count_axis(axes)
        axes.set_xlabel("real states")
        axes.set_ylabel(f"{label} (%)" if percent else label)
        if not percent:
            _log_axis(axes)
        if curve is not None or len(some) > 1:
            axes.legend(loc="best")
        return _svg(figure)


def promised(states: Float, lower: Float, upper: Float, chosen: float | None) -> str:
    """Between which errors the median channel's is, against the state size."""
    with _styled() as figure_of:
        figure = figure_of(2.6)
        axes = figure.subplots()
        _grid(axes)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.fill_between(states, lower, upper, color=BEFORE, alpha=0.3, linewidth=0)
        axes.plot(states, upper, color=BEFORE, linewidth=1.5, label="bound")
        axes.plot(states, lower, color=AFTER, linewidth=1.5, label="no method below")
        if chosen is not None:
            axes.axvline(chosen, color=MARK, linewidth=1.2, label="this model")
        axes.set_ylim(max(float(lower.min()), 1e-8 * float(upper.max())), None)
        _count_axis(axes)
        _log_axis(axes)
        axes.set_xlabel("state size")
        axes.set_ylabel("error / largest σ")
        axes.legend(loc="lower left")
        return _svg(figure)


def hankel_values(spectrum: Spectrum, orders: Int, lowest: float) -> str:
    """Hankel singular values of one layer.

    Args:
        spectrum: of the layer before.
        orders: (loud channels,) states kept of each channel; as many as it has where nothing
            was cut.
        lowest: where the axis ends.
    """
    from matplotlib.collections import LineCollection

    channels, n = spectrum.hankel.shape
    order = np.arange(1, n + 1)
    with _styled() as figure_of:
        figure = figure_of(2.5)
        axes = figure.subplots()
        _grid(axes)
        pixels = channels * n > _MOST_POINTS
        values = np.where(spectrum.hankel > max(_FLOOR, lowest / 100), spectrum.hankel, np.nan)
        lines = LineCollection(
            [np.column_stack([order, row])[np.isfinite(row)] for row in values],
            colors=_BEFORE_PIXELS if pixels else BEFORE,
            linewidths=0.6,
            alpha=float(np.clip(24 / channels, 0.08, 0.7)),
        )
        lines.set_rasterized(pixels)
        axes.add_collection(lines)
        median = np.where(spectrum.median > _FLOOR, spectrum.median, np.nan)
        axes.plot(order, median, color=AFTER, linewidth=2, label="median channel")
        states = spectrum.stable_states[spectrum.loud]
        cut = np.flatnonzero((orders < states) & (orders > 0))
        if len(cut) and (orders[cut] == orders[cut[0]]).all():
            axes.axvline(orders[cut[0]] + 0.5, color=MARK, linewidth=1.2, label="cut here")
        elif len(cut):
            at = spectrum.hankel[cut, orders[cut] - 1]
            seen = at > lowest / 100
            axes.scatter(
                orders[cut][seen], at[seen], s=9, color=MARK, alpha=0.75, linewidths=0, zorder=3,
                label="a channel’s order", rasterized=len(cut) > _MOST_MARKERS,
            )  # fmt: skip
        axes.set_yscale("log")
        axes.set_ylim(lowest, 2)
        axes.set_xlim(0, max(n, 2))
        _log_axis(axes)
        axes.set_xlabel("k, real states")
        axes.set_ylabel("σₖ / σ₁")
        axes.legend(loc="lower left")
        return _svg(figure)


def lowest_value(spectra: list[Spectrum]) -> float:
    """Where the axis of Hankel singular values ends: all but a few lie above."""
    values = np.concatenate([np.ones(1), *(spectrum.hankel.ravel() for spectrum in spectra)])
    few = np.quantile(values[values > _FLOOR], 0.05)
    return float(10 ** np.floor(np.log10(np.clip(few, 1e-10, 1e-3))))


def budget(names: list[str], states: list[Int]) -> str:
    """Real states of each channel as a heat map, layers down, channels across.

    Args:
        names: of the layers.
        states: of each layer, (its channels,).
    """
    from matplotlib.patches import Rectangle

    largest = max(int(each.max(initial=0)) for each in states) or 1
    with _styled() as figure_of:
        figure = figure_of(0.95 + 0.26 * len(names))
        axes, scale = figure.subplots(2, 1, height_ratios=[len(names) + 0.4, 0.55])
        for row, each in enumerate(states):
            ordered = np.sort(each)[::-1]
            # Neighbours of one value are one rectangle.
            edges = np.flatnonzero(np.diff(ordered, prepend=-1))
            for left, right in itertools.pairwise([*edges.tolist(), len(ordered)]):
                axes.add_patch(
                    Rectangle(
                        (left, row - 0.42), right - left, 0.84, facecolor=AFTER, linewidth=0,
                        alpha=_shade(int(ordered[left]), largest),
                    )
                )  # fmt: skip
        axes.set_xlim(0, max(len(each) for each in states))
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_yticks(range(len(names)), [_short(name) for name in names])
        for text in axes.get_yticklabels():
            text.set_parse_math(False)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("channels of the layer, most states first")
        steps = np.unique(np.linspace(0, largest, 33).round().astype(int)).tolist()
        for left, right in itertools.pairwise([*steps, largest + 1]):
            scale.add_patch(
                Rectangle(
                    (left - 0.5, 0), right - left, 1, facecolor=AFTER, linewidth=0,
                    alpha=_shade(left, largest),
                )
            )  # fmt: skip
        scale.set_xlim(-0.5, largest + 0.5)
        scale.set_ylim(0, 1)
        scale.set_yticks([])
        scale.spines["left"].set_visible(False)
        scale.xaxis.get_major_locator().set_params(integer=True)
        scale.set_xlabel("real states kept")
        return _svg(figure)


def _shade(states: int, largest: int) -> float:
    return 0.06 + 0.94 * states / largest if states else 0.0


def kernels(before: Float, after: Float) -> str:
    """Two kernels, (samples,) each, and their difference below."""
    length = len(before)
    # Long kernels have their story at their start.
    logarithmic = length > 256
    k = np.arange(length) + (1 if logarithmic else 0)
    with _styled() as figure_of:
        figure = figure_of(3.1)
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1.9, 1])
        for axes in (top, bottom):
            _grid(axes)
            axes.axhline(0, color=MUTED, linewidth=0.6)
        bins = _bins(length, logarithmic)
        top.plot(*_extremes(k, before, bins), color=BEFORE, linewidth=2.6, label="before")
        top.plot(*_extremes(k, after, bins), color=AFTER, linewidth=1, label="after")
        bottom.plot(*_extremes(k, after - before, bins), color=MARK, linewidth=1)
        if logarithmic:
            bottom.set_xscale("log")
            _count_axis(bottom)
        bottom.set_xlim(k[0], max(k[-1], k[0] + 1))
        top.set_ylabel("kernel")
        bottom.set_ylabel("after − before")
        bottom.set_xlabel("k + 1, samples" if logarithmic else "k, samples")
        top.legend(loc="best", ncols=2)
        for axes in (top, bottom):
            axes.locator_params(axis="y", nbins=4)
            # The factor of such an axis is drawn as a formula, which the page's font displaces.
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:.4g}".replace("-", "−"))
        figure.align_ylabels([top, bottom])
        return _svg(figure)


def poles(before: Complex, after: Complex) -> str:
    """Poles, (modes,) each, in the upper half of the unit disk."""
    before, after = (each.real + 1j * np.abs(each.imag) for each in (before, after))
    with _styled() as figure_of:
        figure = figure_of(2.55)
        axes = figure.subplots()
        angle = np.linspace(0, np.pi, 181)
        axes.plot(np.cos(angle), np.sin(angle), color=MUTED, linewidth=0.8)
        axes.axhline(0, color=MUTED, linewidth=0.8)
        pixels = len(before) > _MOST_MARKERS
        axes.scatter(
            before.real, before.imag, s=11, color=_BEFORE_PIXELS if pixels else BEFORE,
            alpha=float(np.clip(800 / (len(before) + 1), 0.3, 0.9)), linewidths=0,
            rasterized=pixels, label=f"before ({len(before):,})",
        )  # fmt: skip
        pixels = len(after) > _MOST_MARKERS
        axes.scatter(
            after.real, after.imag, s=8, color=_AFTER_PIXELS if pixels else AFTER,
            alpha=float(np.clip(400 / (len(after) + 1), 0.35, 0.9)), linewidths=0,
            rasterized=pixels, label=f"after ({len(after):,})",
        )  # fmt: skip
        grows = np.concatenate([before, after])
        grows = grows[np.abs(grows) >= 1]
        if len(grows):
            axes.scatter(
                grows.real, grows.imag, s=14, facecolors="none", edgecolors=MARK, linewidths=0.8,
                label="grows, kept", rasterized=len(grows) > _MOST_MARKERS,
            )  # fmt: skip
        largest = float(np.abs(np.concatenate([before, after, [0]])).max())
        edge = float(np.clip(1.03 * largest, 1.06, 2))
        axes.set_aspect("equal")
        axes.set_xlim(-edge, edge)
        axes.set_ylim(-0.03, edge)
        axes.set_xticks([-1, -0.5, 0, 0.5, 1], ["−1", "−0.5", "0", "0.5", "1"])
        axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_xlabel("Re a")
        axes.set_ylabel("Im a")
        legend = figure.legend(loc="outside upper center", ncols=3, markerscale=1.6)
        for handle in legend.legend_handles:
            if handle is not None:
                handle.set_alpha(1)
        return _svg(figure)


# What all figures share


@contextmanager
def _styled() -> Iterator[Any]:
    """Gives a maker of figures by their height in inches."""
    # Not pyplot: no state is shared with, and no backend chosen for, a program that uses this.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # Any: what its type is has changed between versions.
    style: Any = {
        "font.size": 9,
        "axes.labelsize": 9,
        "legend.fontsize": 8.5,
        "legend.facecolor": CARD,
        "legend.edgecolor": "none",
        "legend.framealpha": 0.85,
        "legend.borderpad": 0.2,
        "legend.handlelength": 1.4,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.7,
        "axes.axisbelow": True,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": MUTED,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "svg.fonttype": "none",
        # The same figure has the same names in it.
        "svg.hashsalt": "s4edge",
    }
    with rc_context(style):
        yield lambda height: Figure(figsize=(_WIDTH, height), layout="constrained")


def _grid(axes: Axes) -> None:
    axes.grid(color=FAINT, linewidth=0.6)


def _plain(value: float) -> str:
    """Without formulas, whose glyphs the page's font would displace."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:,.10g}"
    exponent = int(np.floor(np.log10(abs(value)) + 1e-9))
    factor = value / 10.0**exponent
    power = "10" + str(exponent).translate(_SUPERSCRIPTS)
    return power if abs(factor - 1) < 1e-6 else f"{factor:.3g}·{power}"


def _log_axis(axes: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high / low < 30:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    else:
        axes.yaxis.set_major_locator(LogLocator(numticks=7))
    axes.yaxis.set_major_formatter(lambda value, _: _plain(value))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _count_axis(axes: Axes) -> None:
    """The x axis: counts, from small ones to large ones."""
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, NullLocator

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    if high < 3 * low:
        axes.set_xscale("linear")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.xaxis.set_major_formatter(lambda value, _: _plain(value))
        return
    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    # As many as find room.
    for steps in ((1, 2, 3, 4, 5, 6, 8), (1, 2, 5), (1, 3), (1,)):
        ticks = np.outer(10.0**decades, steps).ravel()
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        if len(ticks) <= 6:
            break
    axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(lambda value, _: _plain(value))


def _thinned(x: Float, y: Float) -> tuple[Float, Float]:
    """A long falling curve by points that are evenly apart on a logarithmic axis."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    seen = (x > 0) & (y > 0) & np.isfinite(y)
    x, y = x[seen], y[seen]
    if len(x) <= 300:
        return x, y
    wanted = np.geomspace(x[0], x[-1], 300)
    at = np.unique(np.minimum(np.searchsorted(x, wanted), len(x) - 1))
    return x[at], y[at]


def _bins(length: int, logarithmic: bool) -> Int:
    if length <= 2 * _BINS:
        return np.arange(length)
    ends = np.geomspace(1, length, _BINS) - 1 if logarithmic else np.linspace(0, length - 1, _BINS)
    return np.unique(ends.astype(np.int64))


def _extremes(k: Int, values: Float, bins: Int) -> tuple[Float, Float]:
    """What a line looks like that has more samples than pixels."""
    if len(bins) == len(values):
        return k.astype(float), values
    low, high = np.minimum.reduceat(values, bins), np.maximum.reduceat(values, bins)
    return np.repeat(k[bins].astype(float), 2), np.column_stack([low, high]).ravel()


def _short(name: str, most: int = 16) -> str:
    return name if len(name) <= most else "…" + name[1 - most :]


def _svg(figure: Figure) -> str:
    """The figure as an element of a page."""
    out = io.StringIO()
    figure.savefig(
        out, format="svg", dpi=_DPI, transparent=True,
        metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
    )  # fmt: skip
    text = out.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    # Names of namespaces are URLs, and HTML needs none.
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None
    text = re.sub(r"<svg[^>]*>", f'<svg {box[0]} aria-hidden="true">', text, count=1)
    text = re.sub(r'(?<= d=")[^"]*', _rounded, text)
    for color, name in _VARIABLES.items():
        text = text.replace(color, f"var(--{name}, {color})")
    # No two figures of a page may share a name.
    prefix = "f" + hashlib.sha256(text.encode()).hexdigest()[:8]
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = text.replace('href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
    return re.sub(r"\n\s*", "\n", text)


def _rounded(path: re.Match[str]) -> str:
    short = re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.2f}", path[0])
    return re.sub(r"\s+", " ", short).strip()
