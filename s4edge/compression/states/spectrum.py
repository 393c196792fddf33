"""Hankel singular values of every layer, and what they promise of smaller state sizes.

Nothing is reduced here: for a channel of real order n reduced to order r,
``sigma_{r+1} <= ||G - G_r||_inf`` holds for every ``G_r`` of that order, and balanced truncation
attains ``||G - G_r||_inf <= 2 sum_{k>r} sigma_k`` (see
`s4edge.compression.states.methods.balanced`). Both are given relative to the channel's ``sigma_1``.
Modes with ``|a| >= 1`` have no Gramian and are kept by every reduction: what is told is of the
stable modes beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from s4edge.arrays import Complex, Float, Int
from s4edge.compression.states.unit import Unit, units_of
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.diagonal import DiagonalConfig
from s4edge.progress import Progress, silent
from s4edge.systems.balancing import hankel_singular_values

RELATIVE_TO = "sigma_1 (largest Hankel singular value of the channel)"
_SMALLER = (2, 4, 8, 16)


@dataclass(frozen=True)
class Spectrum:
    """The spectrum of one layer's systems in one direction of time.

    Attributes:
        name: of the layer; those that run backward have "(backward)" after it.
        systems: their configuration.
        pole: (modes,) one pole of each pair, the growing ones too.
        hankel: (loud channels, most real states of any channel) sigma_k / sigma_1 of the stable
            modes, descending; 0 beyond a channel's own states. Channels without stable modes or
            with an output of zero are left out.
        stable_states: (channels,) real states of the stable modes.
        loud: (loud channels,) the channels in ``hankel``.
    """

    name: str
    systems: DiagonalConfig
    pole: Complex
    hankel: Float
    stable_states: Int
    loud: Int

    @property
    def growing(self) -> int:
        """Modes that have no Gramian."""
        return sum(self.systems.growing)

    @property
    def median(self) -> Float:
        """(real states,) over the channels, order by order; empty without a loud channel."""
        return np.median(self.hankel, axis=0) if len(self.hankel) else np.zeros(0)

    @property
    def worst(self) -> Float:
        """(real states,) the largest over the channels, order by order."""
        return self.hankel.max(axis=0) if len(self.hankel) else np.zeros(0)

    def bounds(self, size: int) -> tuple[Float, Float] | None:
        """(loud channels,) at least and at most this relative error at a state size.

        None where the growing modes, which are kept, leave no state for the others.
        """
        order = size * self.systems.states_per_size - 2 * np.asarray(self.systems.growing)
        if (order < (self.stable_states > 0)).any():
            return None
        channels, n = self.hankel.shape
        order = np.minimum(order[self.loud], n)
        padded = np.hstack([self.hankel, np.zeros((channels, 1))])
        # Summed from the small end.
        tail = np.cumsum(padded[:, ::-1], axis=1)[:, ::-1]
        row = np.arange(channels)
        return padded[row, order], 2 * tail[row, order]


def model_spectra(model: SequenceModel, progress: Progress = silent) -> list[Spectrum]:
    """The spectra of all layers that have modes, in order, backward after forward.

    Args:
        model: left as it is.
        progress: called with the fraction done.
    """
    spectra, units = [], units_of(model)
    # The matrices are small: BLAS threads would only wait for each other.
    with threadpool_limits(1):
        for index, unit in enumerate(units):
            spectra.append(_spectrum(unit))
            progress((index + 1) / len(units))
    return [spectrum for spectrum in spectra if len(spectrum.pole)]


def _spectrum(unit: Unit) -> Spectrum:
    stable = unit.stable
    values = hankel_singular_values(stable)
    loud = [h for h, sigma in enumerate(values) if len(sigma) and 0 < sigma[0] < np.inf]
    hankel = np.zeros((len(loud), max((len(values[h]) for h in loud), default=0)))
    for row, h in enumerate(loud):
        hankel[row, : len(values[h])] = values[h] / values[h][0]
    return Spectrum(
        unit.name,
        unit.systems.config,
        unit.systems.modes().pole,
        hankel,
        stable.real_states,
        np.array(loud, dtype=np.int64),
    )


def smaller_sizes(spectra: list[Spectrum]) -> list[int]:
    """N/2, N/4, N/8 and N/16 of the largest state size N, as far as they are smaller than N."""
    largest = max((spectrum.systems.state_size for spectrum in spectra), default=0)
    sizes = {max(1, int(largest / part)) for part in _SMALLER}
    return sorted((size for size in sizes if size < largest), reverse=True)


def add_spectra(summary: dict[str, Any], spectra: list[Spectrum]) -> None:
    """Put ``hankel`` and ``state_sizes`` into an answer of `summarize`."""
    by_name = {spectrum.name: spectrum for spectrum in spectra}
    sizes = smaller_sizes(spectra)
    for layer in summary["layers"]:
        for entry in (layer, layer["backward"]):
            if entry is not None:
                spectrum = by_name.get(entry["name"])
                loud = spectrum is not None and len(spectrum.hankel) > 0
                entry["hankel"] = _hankel(spectrum) if spectrum and loud else None
                entry["state_sizes"] = (
                    [_kept(spectrum, size) for size in sizes] if spectrum and loud else []
                )
    rows = [_kept(spectrum, size) for spectrum in spectra if len(spectrum.hankel) for size in sizes]
    summary["state_sizes"] = [
        _largest(size, [row for row in rows if row["state_size"] == size]) for size in sizes if rows
    ]
    summary["errors_relative_to"] = RELATIVE_TO


def _hankel(spectrum: Spectrum) -> dict[str, list[float]]:
    return {"median": spectrum.median.tolist(), "worst": spectrum.worst.tolist()}


def _kept(spectrum: Spectrum, size: int) -> dict[str, Any]:
    bounds = spectrum.bounds(size)
    states = size * spectrum.systems.states_per_size
    entry: dict[str, Any] = {"state_size": size, "real_states": states}
    for index, key in enumerate(("lower", "upper")):
        entry[key] = bounds and {
            "median": float(np.median(bounds[index])),
            "worst": float(bounds[index].max()),
        }
    return entry


def _largest(size: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The worst over the layers; None where one of them cannot have that size."""
    entry: dict[str, Any] = {"state_size": size}
    for key in ("lower", "upper"):
        found = [row[key] for row in rows]
        entry[key] = (
            None
            if None in found
            else {which: max(each[which] for each in found) for which in ("median", "worst")}
        )
    return entry


def growing_notes(spectra: list[Spectrum]) -> list[str]:
    """A line for every layer of which the spectrum is not all."""
    return [
        f"{spectrum.name}: {spectrum.growing} of its {len(spectrum.pole)} modes grow (|a| >= 1) "
        "and have no Gramian; they are kept, and what is told here is of its stable modes only"
        for spectrum in spectra
        if spectrum.growing
    ]
