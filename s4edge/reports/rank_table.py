"""What ranks did to a model's dense layers, for people."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from s4edge.reports.compression_table import work_told


def rank_table(rank: dict[str, Any]) -> Table:
    """A table of dense layers.

    Args:
        rank: the entry of the model's history, as JSON.
    """
    table = Table(
        title="Dense layers as products of two matrices",
        caption=Text(work_told(rank), style="table.caption"),
        caption_justify="left",
    )
    table.add_column("layer")
    table.add_column("features", no_wrap=True)
    table.add_column("multiply-adds\nper sample", justify="right", no_wrap=True)
    table.add_column("error behind it\n(predicted)", justify="right", no_wrap=True)
    table.add_column("output error\nso far\n(predicted)", justify="right")
    for layer in rank["layers"]:
        error = layer["output_error"]
        table.add_row(
            # As Text, for a bracket in a name is no markup.
            Text(f"{layer['name']}\n{layer['dense']}"),
            " -> ".join(str(layer[each]) for each in ("columns", "rank", "rows") if each in layer),
            f"{layer['multiply_adds_before']:,} ->\n{layer['multiply_adds_after']:,}",
            f"{layer['error']:.2%} ({layer['predicted_error']:.2%})",
            f"{error['measured']:.2%} ({error['predicted']:.2%})",
        )
    return table
