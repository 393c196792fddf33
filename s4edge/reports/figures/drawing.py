"""What all figures share: their style, grids and axes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from s4edge.reports.numbers import tick
from s4edge.reports.palette import CARD, FAINT, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Figures of a page are narrow, so that their text is legible on a phone; the page lays them out.
NARROW = 4.0
# More markers than this are drawn as pixels.
MOST_MARKERS = 500


@contextmanager
def new_figure(height: float, width: float = NARROW) -> Iterator[Figure]:
    """Gives a figure, sizes in inches; it is drawn and written in here."""
    # Not pyplot: no state is shared with, and no backend chosen for, a program that uses this.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # Any: what its type is has changed between versions.
    style: Any = {
        "font.size": 9,
        "axes.labelsize": 9,
        "axes.titlesize": 10,
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
        yield Figure(figsize=(width, height), layout="constrained")


def add_grid(axes: Axes) -> None:
    """Lines through the figure."""
    axes.grid(color=FAINT, linewidth=0.6)


def log_y_axis(axes: Axes) -> None:
    """The y axis: logarithmic, with few ticks."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high / low < 30:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    else:
        axes.yaxis.set_major_locator(LogLocator(numticks=7))
    axes.yaxis.set_major_formatter(lambda value, _: tick(value))
    axes.yaxis.set_minor_formatter(NullFormatter())


def count_x_axis(axes: Axes) -> None:
    """The x axis: counts, from small ones to large ones."""
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter, NullLocator

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    if high < 3 * low:
        axes.set_xscale("linear")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.xaxis.set_major_formatter(lambda value, _: tick(value))
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
    axes.xaxis.set_major_formatter(lambda value, _: tick(value))
