"""Spectra as a picture: Hankel singular values of all channels, and the poles beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from s4edge.compression.states.spectrum import Spectrum, smaller_sizes
from s4edge.errors import S4EdgeError
from s4edge.reports.figures.drawing import new_figure
from s4edge.reports.figures.hankel import draw_hankel_values, lowest_value, mark_sizes
from s4edge.reports.figures.picture_file import check_plot, write_picture
from s4edge.reports.figures.poles import Cloud, draw_poles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PAD = 13  # between titles and axes, for the state sizes


def plot_spectra(spectra: list[Spectrum], path: Path, title: str) -> None:
    """Write the picture: one row per layer, its format by the suffix of ``path``.

    Raises:
        S4EdgeError: as `check_plot`, or the model has no modes to draw.
    """
    check_plot(path)
    if not spectra:
        raise S4EdgeError("there is nothing to plot: no layer of the model has modes")
    with new_figure(0.5 + 2.75 * len(spectra), width=9.6) as figure:
        # A dollar in a name is no formula.
        figure.suptitle(title, fontsize=11, fontweight="bold", parse_math=False)
        axes = figure.subplots(len(spectra), 2, squeeze=False, width_ratios=[1.25, 1])
        lowest, sizes = lowest_value(spectra), smaller_sizes(spectra)
        for (left, right), spectrum in zip(axes, spectra, strict=True):
            lines = draw_hankel_values(left, spectrum, lowest)
            lines.set_label("one channel")
            mark_sizes(left, spectrum, sizes)
            left.set_title(spectrum.name, loc="left", pad=_PAD, parse_math=False)
            for handle in left.legend(loc="lower left").legend_handles:
                handle.set_alpha(1)
            _draw_poles(right, spectrum)
        write_picture(figure, path)


def _draw_poles(axes: Axes, spectrum: Spectrum) -> None:
    pole = spectrum.pole
    draw_poles(axes, [Cloud(pole, "modes")], "grows ({})")
    axes.set_anchor("N")
    told = f"{len(pole):,} modes, largest |a| = {np.abs(pole).max():.6f}"
    axes.set_title(told, loc="left", pad=_PAD)
    axes.set_xlabel("Re a (upper half of the unit disk)")
    if spectrum.growing:
        axes.legend(loc="lower center")
