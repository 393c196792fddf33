"""Spectra in the terminal: bars where it knows them, numbers everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from s4edge.arrays import Float
from s4edge.compression.states.spectrum import Spectrum, smaller_sizes
from s4edge.reports.model_summary import layer_table
from s4edge.reports.numbers import narrow

_BLOCKS = " ▁▂▃▄▅▆▇█"
_DECADES = 4
_NAME_WIDTH, _NUMBER_WIDTH = 24, 6
_LEAST_BARS, _MOST_BARS = 12, 32


def bars(values: Float, width: int) -> str:
    """Bars of descending values from 1 down, on a logarithmic axis of 4 decades.

    Where there are more values than ``width``, a bar is the first, that is the largest, of some.
    """
    width = min(width, len(values))
    first = np.arange(width) * len(values) // max(width, 1)
    with np.errstate(divide="ignore"):
        share = 1 + np.log10(values[first]) / _DECADES
    height = np.rint(np.clip(share, 0, 1) * (len(_BLOCKS) - 1)).astype(int)
    return "".join(_BLOCKS[level] for level in height)


def hankel_table(spectra: list[Spectrum], width: int, ascii_only: bool) -> Table | None:
    """The Hankel singular values of every layer, as bars and at some orders as numbers.

    Args:
        spectra: of `s4edge.compression.states.spectrum.model_spectra`.
        width: columns of the terminal.
        ascii_only: numbers only, but of more orders.
    """
    shown = [spectrum for spectrum in spectra if len(spectrum.hankel)]
    if not shown:
        return None
    longest = max(spectrum.hankel.shape[1] for spectrum in shown)
    sigma = "sigma" if ascii_only else "σ"
    names = _name_width([spectrum.name for spectrum in shown])
    orders = [k for k in (2 ** np.arange(16)).tolist() if k <= longest][-7 if ascii_only else -4 :]
    # A column and the space after it; the box has a margin on both sides.
    taken = names + 2 + len("channel") + 2 + (_NUMBER_WIDTH + 2) * len(orders) + 2
    chart = 0 if ascii_only else min(longest, max(_LEAST_BARS, min(_MOST_BARS, width - taken)))
    caption = f"{sigma}_k / {sigma}_1 of each channel: the median and the largest over channels."
    if chart:
        caption += (
            f" Bars: k from 1 to {longest}, full at 1, a factor of 3 for each step down, "
            f"empty below 1e-{_DECADES}."
        )
    table = layer_table("Hankel singular values", caption, names)
    table.add_column("channel", no_wrap=True)
    if chart:
        table.add_column("k=1" + f"{longest}".rjust(chart - 3), no_wrap=True)
    for k in orders:
        table.add_column(f"k={k}", justify="right", no_wrap=True, min_width=_NUMBER_WIDTH)
    for spectrum in shown:
        rows = [np.pad(row, (0, longest - len(row))) for row in (spectrum.median, spectrum.worst)]
        cells = ["\n".join(bars(row, chart) for row in rows)] if chart else []
        cells += ["\n".join(narrow(row[k - 1]) for row in rows) for k in orders]
        table.add_row(Text(spectrum.name), "median\nworst", *cells)
    return table


def state_size_table(
    summary: dict[str, Any], spectra: list[Spectrum], ascii_only: bool
) -> Table | None:
    """What state size keeps which error: bounds of every layer and, last, the worst of them."""
    sizes = smaller_sizes(spectra)
    shown = [
        entry
        for layer in summary["layers"]
        for entry in (layer, layer["backward"])
        if entry is not None and entry["state_sizes"]
    ]
    if not sizes or not shown:
        return None
    sigma = "sigma" if ascii_only else "σ"
    dots = ".." if ascii_only else "…"
    caption = (
        f"H-infinity error relative to {sigma}_1 of channels cut to r real states: at least "
        f"{sigma}_(r+1), by any method that leaves D; at most 2 x the sum of {sigma}_k for k > r, "
        "with balanced truncation. These are bounds: s4edge compress measures the error."
    )
    names = _name_width([entry["name"] for entry in shown])
    table = layer_table("What state size keeps which error", caption, names)
    table.add_column("channel", no_wrap=True)
    for size in sizes:
        table.add_column(f"state size\n{size}", justify="right", no_wrap=True)
    if len(shown) > 1:
        shown.append({"name": "worst layer", "state_sizes": summary["state_sizes"]})
    for entry in shown:
        cells = [
            "\n".join(_between(kept, which, dots) for which in ("median", "worst"))
            for kept in entry["state_sizes"]
        ]
        table.add_row(Text(entry["name"]), "median\nworst", *cells)
    return table


def _name_width(names: list[str]) -> int:
    """Of the longest word, up to a limit: "(backward)" goes to a line of its own."""
    return min(max(len(word) for name in ["layer", *names] for word in name.split()), _NAME_WIDTH)


def _between(kept: dict[str, Any], which: str, dots: str) -> str:
    if kept["lower"] is None:
        return "too small"
    return f"{narrow(kept['lower'][which])} {dots} {narrow(kept['upper'][which])}"
