"""Where the states are, channel by channel."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from s4edge.arrays import Int
from s4edge.reports.figures.drawing import new_figure
from s4edge.reports.figures.inline import inline
from s4edge.reports.frame import Html
from s4edge.reports.palette import AFTER

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def budget(names: list[str], states: list[Int]) -> Html:
    """Real states of each channel as a heat map, layers down, channels across.

    Args:
        names: of the layers.
        states: of each layer, (its channels,).
    """
    largest = max(int(each.max(initial=0)) for each in states) or 1
    with new_figure(0.95 + 0.26 * len(names)) as figure:
        axes, scale = figure.subplots(2, 1, height_ratios=[len(names) + 0.4, 0.55])
        for row, each in enumerate(states):
            ordered = np.sort(each)[::-1]
            # Neighbours of one value are one rectangle.
            edges = np.flatnonzero(np.diff(ordered, prepend=-1))
            for left, right in itertools.pairwise([*edges.tolist(), len(ordered)]):
                _shaded(axes, left, right, row - 0.42, 0.84, ordered[left] / largest)
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
            _shaded(scale, left - 0.5, right - 0.5, 0, 1, left / largest)
        scale.set_xlim(-0.5, largest + 0.5)
        scale.set_ylim(0, 1)
        scale.set_yticks([])
        scale.spines["left"].set_visible(False)
        scale.xaxis.get_major_locator().set_params(integer=True)
        scale.set_xlabel("real states kept")
        return inline(figure)


def _shaded(axes: Axes, left: float, right: float, top: float, height: float, share: float) -> None:
    """A box, the fuller the larger the share is; none has no colour."""
    from matplotlib.patches import Rectangle

    alpha = 0.06 + 0.94 * float(share) if share else 0.0
    box = Rectangle((left, top), right - left, height, facecolor=AFTER, linewidth=0, alpha=alpha)
    axes.add_patch(box)


def _short(name: str, most: int = 16) -> str:
    return name if len(name) <= most else "…" + name[1 - most :]
