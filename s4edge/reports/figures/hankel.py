"""Hankel singular values of one layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from s4edge.arrays import Int
from s4edge.compression.states.spectrum import Spectrum
from s4edge.reports.figures.drawing import MOST_MARKERS, add_grid, log_y_axis
from s4edge.reports.palette import AFTER, BEFORE, BEFORE_PIXELS, MARK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection

# More coordinates than this are drawn as pixels.
_MOST_POINTS = 6000
# Hankel singular values further down are rounding.
_FLOOR = 1e-16


def lowest_value(spectra: list[Spectrum]) -> float:
    """Where the axis of Hankel singular values ends: all but a few lie above."""
    values = np.concatenate([np.ones(1), *(spectrum.hankel.ravel() for spectrum in spectra)])
    few = np.quantile(values[values > _FLOOR], 0.05)
    return float(10 ** np.floor(np.log10(np.clip(few, 1e-10, 1e-3))))


def draw_hankel_values(axes: Axes, spectrum: Spectrum, lowest: float) -> LineCollection:
    """Draw all channels and their median.

    Args:
        axes: to draw on.
        spectrum: of the layer.
        lowest: where the axis ends.

    Returns:
        The channels' lines, which have no label.
    """
    from matplotlib.collections import LineCollection

    channels, n = spectrum.hankel.shape
    order = np.arange(1, n + 1)
    add_grid(axes)
    pixels = channels * n > _MOST_POINTS
    values = np.where(spectrum.hankel > max(_FLOOR, lowest / 100), spectrum.hankel, np.nan)
    lines = LineCollection(
        [np.column_stack([order, row])[np.isfinite(row)] for row in values],
        colors=BEFORE_PIXELS if pixels else BEFORE,
        linewidths=0.6,
        alpha=float(np.clip(24 / max(channels, 1), 0.08, 0.7)),
    )
    lines.set_rasterized(pixels)
    axes.add_collection(lines)
    median = np.where(spectrum.median > _FLOOR, spectrum.median, np.nan)
    axes.plot(order[: len(median)], median, color=AFTER, linewidth=2, label="median channel")
    axes.set_yscale("log")
    axes.set_ylim(lowest, 2)
    axes.set_xlim(0, max(n, 2))
    log_y_axis(axes)
    axes.set_xlabel("k, real states")
    axes.set_ylabel("σₖ / σ₁")
    return lines


def mark_orders(axes: Axes, spectrum: Spectrum, orders: Int, lowest: float) -> None:
    """Mark where channels were cut.

    Args:
        axes: that `draw_hankel_values` drew on.
        spectrum: of the layer before.
        orders: (loud channels,) states kept of each channel; as many as it has where nothing
            was cut.
        lowest: where the axis ends.
    """
    states = spectrum.stable_states[spectrum.loud]
    cut = np.flatnonzero((orders < states) & (orders > 0))
    if len(cut) and (orders[cut] == orders[cut[0]]).all():
        axes.axvline(orders[cut[0]] + 0.5, color=MARK, linewidth=1.2, label="cut here")
    elif len(cut):
        at = spectrum.hankel[cut, orders[cut] - 1]
        seen = at > lowest / 100
        axes.scatter(
            orders[cut][seen], at[seen], s=9, color=MARK, alpha=0.75, linewidths=0, zorder=3,
            label="a channel’s order", rasterized=len(cut) > MOST_MARKERS,
        )  # fmt: skip


def mark_sizes(axes: Axes, spectrum: Spectrum, sizes: Sequence[int]) -> None:
    """Mark state sizes by dotted lines, with their numbers above."""
    per_size = spectrum.systems.states_per_size
    # Growing modes are kept and take of each channel's states as many as it has.
    for size in sizes if not spectrum.growing else []:
        if size * per_size < spectrum.hankel.shape[1]:
            axes.axvline(size * per_size, color=MUTED, linewidth=0.7, linestyle=":")
            axes.annotate(
                f"{size}", (size * per_size, 1), xycoords=("data", "axes fraction"),
                xytext=(0, 2), textcoords="offset points", ha="center", color=MUTED, fontsize=7,
            )  # fmt: skip
    if not spectrum.growing:
        axes.set_xlabel("k, real states (dotted: state size)")
