"""A sweep as an answer, as a table, as CSV and as a picture."""

from __future__ import annotations

import csv
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from s4edge.arrays import Float, Int
from s4edge.compression.states.prepared import ReductionSettings
from s4edge.compression.trade_off import TradeOff
from s4edge.files import replacing
from s4edge.reports.figures.drawing import new_figure
from s4edge.reports.figures.picture_file import check_plot, write_picture
from s4edge.reports.figures.trade_off import draw_trade_off
from s4edge.reports.numbers import short_percent


def sweep_answer(
    points: list[TradeOff],
    settings: ReductionSettings,
    seconds: float,
    written: dict[str, Path | None],
) -> dict[str, Any]:
    """The answer of ``s4edge sweep --json``; the first point is the original."""
    return {
        "method": settings.method,
        "allocate": "sensitivity" if settings.allocated else "uniform",
        "refine": settings.refined,
        "points": [asdict(point) for point in points],
        "seconds": seconds,
        **{key: str(path) for key, path in written.items() if path is not None},
    }


def sweep_table(answer: dict[str, Any]) -> Table:
    """`sweep_answer`'s points, one per row; columns of what was not measured are left out."""
    how = [answer["method"], *(["allocated"] if answer["allocate"] == "sensitivity" else [])]
    how += ["refined"] if answer["refine"] else []
    written = [answer[key] for key in ("csv", "plot", "report", "keep") if key in answer]
    caption = f"{answer['seconds']:.1f} s." + (f" Wrote {', '.join(written)}." if written else "")
    table = Table(
        title=f"States against accuracy and error ({', '.join(how)})",
        caption=Text(caption, style="table.caption"),
        caption_justify="left",
    )
    points = answer["points"]
    columns = [
        ("state size", lambda p: f"{p['state']:g}"),
        ("real states", lambda p: f"{p['real_states']:,}"),
        ("parameters", lambda p: f"{p['parameters']:,}"),
    ]
    if any(point["output_error"] is not None for point in points):
        columns.append(("output error\nmeasured", lambda p: _percent(p["output_error"])))
        columns.append(("predicted", lambda p: _percent(p["predicted"])))
    metric = points[0]["metric"]
    if metric is not None:
        shown = _percent if metric == "accuracy" else "{:.4g}".format
        columns.append((metric, lambda p: shown(p["value"])))
    for heading, _ in columns:
        table.add_column(heading, justify="right")
    for point in points:
        table.add_row(*(cell(point) for _, cell in columns))
    return table


def _percent(value: float | None) -> str:
    return short_percent(value, tenths=True, nothing="")


def write_csv(path: Path, points: list[TradeOff]) -> None:
    """The curve as a table, empty where nothing was measured."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(TradeOff)])
        writer.writeheader()
        writer.writerows(asdict(point) for point in points)


def plot_sweep(
    points: list[TradeOff], curve: tuple[Int, Float] | None, path: Path, title: str
) -> None:
    """The trade-off curve, its format by the suffix of ``path``. Raises as `check_plot` does."""
    check_plot(path)
    scored = [point for point in points if point.value is not None]
    # Zero has no place on a logarithmic axis, and what is below a millionth is rounding.
    errors = [(float(p.real_states), p.output_error) for p in points if p.output_error]
    if curve is not None:
        curve = (curve[0][curve[1] > 1e-6], curve[1][curve[1] > 1e-6])
        curve = curve if len(curve[0]) else None
    count = max(1, bool(scored) + bool(errors or curve is not None))
    with new_figure(3.4, width=4.8 * count) as figure:
        figure.suptitle(title, fontsize=11, fontweight="bold", parse_math=False)
        axes = list(figure.subplots(1, count, squeeze=False)[0])
        if scored:
            values = [(float(p.real_states), p.value or 0.0) for p in scored]
            metric = str(scored[0].metric)
            draw_trade_off(
                axes.pop(0), values, metric, original=values[0][1], percent=metric == "accuracy"
            )
        if axes:
            draw_trade_off(axes[0], errors, "relative output error", curve=curve)
        write_picture(figure, path)
