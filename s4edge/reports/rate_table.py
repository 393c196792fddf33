"""What strides did to a model, for people."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text


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
        caption=Text(_caption(rate), style="table.caption"),
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


def _caption(rate: dict[str, Any]) -> str:
    told = (
        f"{rate['multiply_adds_before']:,} -> {rate['multiply_adds_after']:,} multiply-adds per "
        "sample"
    )
    if "output_error" not in rate:
        return told
    error, data = rate["output_error"], rate["calibration"]
    same = ""
    if "same_class" in error:
        same = f"; the largest score is the same one for {error['same_class']:.1%}"
    return (
        f"{told}\nThe output on {data['source']} ({data['sequences']:,} sequences) differs by "
        f"{error['measured']:.2%} (predicted {error['predicted']:.2%}){same}."
    )
