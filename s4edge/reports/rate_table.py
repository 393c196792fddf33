"""What strides did to a model, for people."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from s4edge.reports.compression_table import work_told


def rate_table(rate: dict[str, Any]) -> Table:
    """A table of layers.

    Args:
        rate: the entry of the model's history, as JSON.
    """
    strides = ", ".join(map(str, rate["strides"]))
    at_input = f"; {rate['input_stride']} at the input" if rate["input_stride"] > 1 else ""
    chosen = ", chosen on the calibration data" if rate["chosen"] else ""
    table = Table(
        title=f"Strides {strides}{at_input}{chosen}",
        caption=Text(work_told(rate), style="table.caption"),
        caption_justify="left",
    )
    calibrated = "output_error" in rate
    table.add_column("layer")
    table.add_column("one sample\nof", justify="right")
    table.add_column("stride\nbehind", justify="right")
    table.add_column("multiply-adds\nper sample", justify="right")
    if calibrated:
        table.add_column("error\nbehind it", justify="right")
        table.add_column("output error\nso far (predicted)", justify="right")
    for layer in rate["layers"]:
        errors = []
        if calibrated:
            error = layer["output_error"]
            errors = [
                f"{layer['error']:.2%}",
                f"{error['measured']:.2%} ({error['predicted']:.2%})",
            ]
        table.add_row(
            # As Text, for a bracket in a name is no markup.
            Text(layer["name"]),
            str(layer["period"]),
            str(layer["stride"]),
            f"{layer['multiply_adds_before']:,} -> {layer['multiply_adds_after']:,}",
            *errors,
        )
    return table
