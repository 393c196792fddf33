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
from s4edge.reports.spectrum_plot import check_plot

_BLUE, _GREY, _RED = "#12324f", "#8a8a8a", "#c8402f"


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
    written = [answer[key] for key in ("csv", "plot", "report") if key in answer]
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
    if value is None:
        return ""
    return f"{100 * value:.3g} %" if value < 0.1 else f"{100 * value:.1f} %"


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
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    scored = [point for point in points if point.value is not None]
    # Zero has no place on a logarithmic axis, and what is below a millionth is rounding.
    errors = [point for point in points if point.output_error]
    if curve is not None:
        curve = (curve[0][curve[1] > 1e-6], curve[1][curve[1] > 1e-6])
        curve = curve if len(curve[0]) else None
    count = bool(scored) + bool(errors or curve is not None)
    style: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    with rc_context(style):
        figure = Figure(figsize=(4.8 * max(count, 1), 3.4), layout="constrained")
        figure.suptitle(title, fontsize=11, fontweight="bold", parse_math=False)
        axes = list(figure.subplots(1, max(count, 1), squeeze=False)[0])
        if scored:
            each = axes.pop(0)
            scale = 100 if scored[0].metric == "accuracy" else 1
            x, y = [p.real_states for p in scored], [scale * (p.value or 0) for p in scored]
            each.plot(x, y, "o-", color=_BLUE, markersize=4)
            each.axhline(y[0], color=_GREY, linewidth=0.8, linestyle=":")
            unit = " in %" if scale == 100 else ""
            each.set_title(f"{scored[0].metric}{unit} (dotted: the original)", loc="left")
        if axes:
            each = axes.pop(0)
            if curve is not None:
                each.plot(*curve, color=_GREY, linewidth=1, label="predicted when allocating")
            if errors:
                each.plot([p.real_states for p in errors], [p.output_error for p in errors], "o-",
                          color=_RED, markersize=4, label="measured")  # fmt: skip
            if errors or curve is not None:
                each.set_yscale("log")
                each.legend(frameon=False)
            each.set_title("relative error of the output", loc="left")
        for each in figure.axes:
            each.set_xscale("log", base=2)
            each.set_xlabel("real states")
        with replacing(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=160)
