"""Spectra as a picture: Hankel singular values of all channels, and the poles beside them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from s4edge.compression.states.spectrum import Spectrum, smaller_sizes
from s4edge.errors import MissingExtraError, S4EdgeError
from s4edge.files import check_writable, replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg", ".pdf")
# Hankel singular values further down are rounding.
_FLOOR = 1e-16
_BLUE, _DARK, _RED, _GREY = "#4c86b8", "#12324f", "#c8402f", "#8a8a8a"
_PAD = 13  # between titles and axes, for the state sizes


def check_plot(path: Path) -> None:
    """Fail before any work if no picture can be written there.

    Raises:
        S4EdgeError: the suffix is of no format here, the folder cannot be written, or matplotlib
            is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise S4EdgeError(
            f"--plot writes {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, by the file's suffix; "
            f"{path} has none of them"
        )
    check_writable(path)
    if find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "toolchain")


def plot_spectra(spectra: list[Spectrum], path: Path, title: str) -> None:
    """Write the picture: one row per layer, its format by the suffix of ``path``.

    Raises:
        S4EdgeError: as `check_plot`, or the model has no modes to draw.
    """
    check_plot(path)
    if not spectra:
        raise S4EdgeError("there is nothing to plot: no layer of the model has modes")
    # Not pyplot: no state is shared with, and no backend chosen for, a program that uses this.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # Any: what its type is has changed between versions.
    style: Any = {
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.fonttype": "none",
    }
    with rc_context(style):
        figure = Figure(figsize=(9.6, 0.5 + 2.75 * len(spectra)), layout="constrained")
        # A dollar in a name is no formula.
        figure.suptitle(title, fontsize=11, fontweight="bold", parse_math=False)
        axes = figure.subplots(len(spectra), 2, squeeze=False, width_ratios=[1.25, 1])
        lowest = _lowest(spectra)
        for (left, right), spectrum in zip(axes, spectra, strict=True):
            _draw_values(left, spectrum, lowest, smaller_sizes(spectra))
            _draw_poles(right, spectrum)
        with replacing(path) as temporary:
            try:
                figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=160)
            except OSError as error:
                raise S4EdgeError(f"cannot write {path}: {error.strerror or error}") from error


def _lowest(spectra: list[Spectrum]) -> float:
    """Where the axis ends: a decade that all but a few values lie above."""
    values = np.concatenate([np.ones(1), *(spectrum.hankel.ravel() for spectrum in spectra)])
    few = np.quantile(values[values > _FLOOR], 0.02)
    return float(10 ** np.floor(np.log10(min(few, 1e-3))))


def _draw_values(axes: Axes, spectrum: Spectrum, lowest: float, sizes: list[int]) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.ticker import LogLocator

    channels, n = spectrum.hankel.shape
    order = np.arange(1, n + 1)
    clipped = np.where(spectrum.hankel > _FLOOR, spectrum.hankel, np.nan)
    each = [np.column_stack([order, row]) for row in clipped]
    lines = LineCollection(each, colors=_BLUE, linewidths=0.6, alpha=min(1.0, 12 / (channels + 1)))
    lines.set_rasterized(channels > 256)
    lines.set_label("one channel")
    axes.add_collection(lines)
    median = np.where(spectrum.median > _FLOOR, spectrum.median, np.nan)
    axes.plot(order, median, color=_DARK, linewidth=2, label="median")
    axes.set_yscale("log")
    axes.set_ylim(lowest, 2)
    axes.yaxis.set_major_locator(LogLocator(numticks=7))
    axes.set_xlim(1, max(n, 2))
    per_size = spectrum.systems.states_per_size
    # Growing modes are kept and take of each channel's states as many as it has.
    for size in sizes if not spectrum.growing else []:
        if size * per_size < n:
            axes.axvline(size * per_size, color=_GREY, linewidth=0.7, linestyle=":")
            axes.annotate(
                f"{size}", (size * per_size, 1), xycoords=("data", "axes fraction"),
                xytext=(0, 2), textcoords="offset points", ha="center", color=_GREY, fontsize=7,
            )  # fmt: skip
    axes.set_title(spectrum.name, loc="left", pad=_PAD, parse_math=False)
    axes.set_xlabel("k, real states" + (" (dotted: state size)" if not spectrum.growing else ""))
    axes.set_ylabel("$\\sigma_k\\,/\\,\\sigma_1$")
    legend = axes.legend(loc="lower left", edgecolor="none", framealpha=0.9, fontsize=8)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)


def _draw_poles(axes: Axes, spectrum: Spectrum) -> None:
    # One pole of each pair is drawn, the upper one.
    pole = spectrum.pole.real + 1j * np.abs(spectrum.pole.imag)
    stable = np.abs(pole) < 1
    alpha = float(np.clip(600 / len(pole), 0.2, 0.8))
    angle = np.linspace(0, np.pi, 361)
    axes.plot(np.cos(angle), np.sin(angle), color=_GREY, linewidth=0.8)
    axes.axhline(0, color=_GREY, linewidth=0.8)
    for which, color, label in ((stable, _BLUE, "stable"), (~stable, _RED, "grows")):
        if which.any():
            axes.scatter(
                pole[which].real, pole[which].imag, s=7, color=color, alpha=alpha, linewidths=0,
                label=f"{label} ({which.sum():,})", rasterized=len(pole) > 2000,
            )  # fmt: skip
    edge = float(np.clip(1.03 * np.abs(pole).max(), 1.06, 2))
    axes.set_aspect("equal", anchor="N")
    axes.set_xlim(-edge, edge)
    axes.set_ylim(-0.03, edge)
    axes.set_xticks([-1, -0.5, 0, 0.5, 1])
    axes.set_yticks([0, 0.5, 1])
    axes.set_title(
        f"{len(pole):,} modes, largest |a| = {np.abs(pole).max():.6f}", loc="left", pad=_PAD
    )
    axes.set_xlabel("Re a (upper half of the unit disk)")
    axes.set_ylabel("Im a")
    if not stable.all():
        axes.legend(loc="lower center", frameon=False, fontsize=8)
