"""Kernels before and after."""

from __future__ import annotations

import numpy as np

from s4edge.arrays import Float, Int
from s4edge.reports.figures.drawing import add_grid, count_x_axis, new_figure
from s4edge.reports.figures.inline import inline
from s4edge.reports.frame import Html
from s4edge.reports.palette import AFTER, BEFORE, MARK, MUTED

# Bins of a long line; each keeps its smallest and its largest value.
_BINS = 500


def kernels(before: Float, after: Float) -> Html:
    """Two kernels, (samples,) each, and their difference below."""
    length = len(before)
    # Long kernels have their story at their start.
    logarithmic = length > 256
    k = np.arange(length) + (1 if logarithmic else 0)
    with new_figure(3.1) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1.9, 1])
        for axes in (top, bottom):
            add_grid(axes)
            axes.axhline(0, color=MUTED, linewidth=0.6)
        bins = _bins(length, logarithmic)
        top.plot(*_extremes(k, before, bins), color=BEFORE, linewidth=2.6, label="before")
        top.plot(*_extremes(k, after, bins), color=AFTER, linewidth=1, label="after")
        bottom.plot(*_extremes(k, after - before, bins), color=MARK, linewidth=1)
        if logarithmic:
            bottom.set_xscale("log")
            count_x_axis(bottom)
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
        return inline(figure)


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
