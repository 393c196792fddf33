"""A quantity against real states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from s4edge.arrays import Float, Int
from s4edge.reports.figures.drawing import add_grid, count_x_axis, log_y_axis
from s4edge.reports.palette import AFTER, BEFORE, MARK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = tuple[float, float]


def draw_trade_off(
    axes: Axes,
    points: list[Point],
    label: str,
    *,
    curve: tuple[Int | Float, Float] | None = None,
    chosen: Point | None = None,
    original: float | None = None,
    percent: bool = False,
) -> None:
    """Draw what sizes cost.

    Args:
        axes: to draw on.
        points: measured, real states and value.
        label: of the quantity.
        curve: predicted real states and values, or None.
        chosen: the point of the model that is looked at.
        original: the value before any reduction.
        percent: whether it is a fraction to be shown in percent on a linear axis; else it is
            drawn on a logarithmic one.
    """
    add_grid(axes)
    scale = 100.0 if percent else 1.0
    if curve is not None:
        x, y = _thinned(*curve)
        axes.plot(x, y * scale, color=BEFORE, linewidth=1.8, label="predicted")
    if points:
        x, y = (np.array(each, dtype=float) for each in zip(*sorted(points), strict=True))
        axes.plot(
            x, y * scale, color=AFTER, linewidth=1, marker="o", markersize=4.5, label="measured",
            linestyle="-" if len(points) > 2 else "none",
        )  # fmt: skip
    if chosen is not None and len(points) > 1:
        axes.plot(
            [chosen[0]], [chosen[1] * scale], color=MARK, marker="o", markersize=9,
            markerfacecolor="none", markeredgewidth=1.5, linestyle="none", label="this model",
        )  # fmt: skip
    if original is not None:
        axes.axhline(
            original * scale, color=BEFORE, linewidth=1, linestyle=":", label="the original"
        )
    if curve is not None or points:
        count_x_axis(axes)
        if not percent:
            log_y_axis(axes)
    axes.set_xlabel("real states")
    axes.set_ylabel(f"{label} (%)" if percent else label)
    if curve is not None or len(points) > 1:
        axes.legend(loc="best")


def _thinned(states: Int | Float, values: Float) -> tuple[Float, Float]:
    """A long falling curve by points that are evenly apart on a logarithmic axis."""
    seen = (states > 0) & (values > 0) & np.isfinite(values)
    x, y = states[seen].astype(float), values[seen].astype(float)
    if len(x) <= 300:
        return x, y
    wanted = np.geomspace(x[0], x[-1], 300)
    at = np.unique(np.minimum(np.searchsorted(x, wanted), len(x) - 1))
    return x[at], y[at]
