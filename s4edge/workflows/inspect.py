"""What a model file is, and how small it may get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s4edge.compression.states.spectrum import Spectrum, add_spectra, model_spectra
from s4edge.reports.figures.picture_file import check_plot
from s4edge.reports.model_summary import summarize
from s4edge.reports.spectrum_plot import plot_spectra
from s4edge.workflows.audience import NOBODY, Audience
from s4edge.workflows.inputs import read_model


@dataclass(frozen=True)
class Inspected:
    """What was found.

    Attributes:
        answer: of ``s4edge inspect --json``.
        spectra: Hankel singular values of each layer's systems.
    """

    answer: dict[str, Any]
    spectra: list[Spectrum]


def inspect_file(
    model: Path,
    *,
    facts: Mapping[str, Any] | None = None,
    rate: float | None = None,
    plot: Path | None = None,
    audience: Audience = NOBODY,
) -> Inspected:
    """Read a model and describe it; nothing is reduced.

    Args:
        model: an upstream checkpoint or a compressed model.
        facts: of a checkpoint, as for `s4edge.load`.
        rate: samples per second, to give time constants in seconds, too.
        plot: the picture to write, of all Hankel singular values and poles.
        audience: who is told on the way.

    Raises:
        S4EdgeError: the file cannot be read, or the picture not be written.
    """
    if plot is not None:
        check_plot(plot)
    loaded = read_model(model, facts, audience)
    answer = summarize(loaded, rate)
    with audience.progress("Hankel singular values") as progress:
        spectra = model_spectra(loaded, progress)
    add_spectra(answer, spectra)
    if plot is not None:
        plot_spectra(spectra, plot, title=model.name)
        answer["plot"] = str(plot)
    return Inspected(answer, spectra)
