"""What theory promises, at every state size."""

from __future__ import annotations

from s4edge.arrays import Float
from s4edge.reports.figures.drawing import add_grid, count_x_axis, log_y_axis, new_figure
from s4edge.reports.figures.inline import inline
from s4edge.reports.frame import Html
from s4edge.reports.palette import AFTER, BEFORE, MARK


def promised(states: Float, lower: Float, upper: Float, chosen: float | None) -> Html:
    """Between which errors the median channel's is, against the state size."""
    with new_figure(2.6) as figure:
        axes = figure.subplots()
        add_grid(axes)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.fill_between(states, lower, upper, color=BEFORE, alpha=0.3, linewidth=0)
        axes.plot(states, upper, color=BEFORE, linewidth=1.5, label="bound")
        axes.plot(states, lower, color=AFTER, linewidth=1.5, label="no method below")
        if chosen is not None:
            axes.axvline(chosen, color=MARK, linewidth=1.2, label="this model")
        axes.set_ylim(max(float(lower.min()), 1e-8 * float(upper.max())), None)
        count_x_axis(axes)
        log_y_axis(axes)
        axes.set_xlabel("state size")
        axes.set_ylabel("error / largest σ")
        axes.legend(loc="lower left")
        return inline(figure)
