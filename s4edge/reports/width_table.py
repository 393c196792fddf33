"""What a narrower residual stream did to a model, for people."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from s4edge.reports.compression_table import work_told


def width_table(width: dict[str, Any]) -> Table:
    """A table of layers.

    Args:
        width: the entry of the model's history, as JSON.
    """
    table = Table(
        title=f"Width {width['width_before']} -> {width['width']}",
        caption=Text(work_told(width), style="table.caption"),
        caption_justify="left",
    )
    table.add_column("layer")
    table.add_column("channels", justify="right")
    table.add_column("multiply-adds\nper sample", justify="right")
    table.add_column("error\nbehind it", justify="right")
    for layer in width["layers"]:
        table.add_row(
            # As Text, for a bracket in a name is no markup.
            Text(layer["name"]),
            f"{layer['channels_before']} -> {layer['channels_after']}",
            f"{layer['multiply_adds_before']:,} -> {layer['multiply_adds_after']:,}",
            f"{layer['error']:.2%}",
        )
    return table
