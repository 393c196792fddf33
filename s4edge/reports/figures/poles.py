"""Poles in the upper half of the unit disk, one of each conjugate pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from s4edge.arrays import Complex
from s4edge.reports.figures.drawing import MOST_MARKERS
from s4edge.reports.palette import AFTER, AFTER_PIXELS, BEFORE, BEFORE_PIXELS, MARK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Cloud:
    """Poles of one kind.

    Attributes:
        poles: (poles,) anywhere.
        label: what they are called.
        old: whether they are of the model before.
    """

    poles: Complex
    label: str
    old: bool = False


def draw_poles(axes: Axes, clouds: Sequence[Cloud], growing: str) -> None:
    """Draw poles.

    Args:
        axes: to draw on.
        clouds: drawn one upon the other.
        growing: what those are called that are not stable; "{}" stands for how many.
    """
    angle = np.linspace(0, np.pi, 181)
    axes.plot(np.cos(angle), np.sin(angle), color=MUTED, linewidth=0.8)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    for cloud in clouds:
        poles, count = _upper(cloud.poles), len(cloud.poles)
        pixels = count > MOST_MARKERS
        size, color, alpha = (
            (11, BEFORE_PIXELS if pixels else BEFORE, np.clip(800 / (count + 1), 0.3, 0.9))
            if cloud.old
            else (8, AFTER_PIXELS if pixels else AFTER, np.clip(400 / (count + 1), 0.35, 0.9))
        )
        axes.scatter(
            poles.real, poles.imag, s=size, color=color, alpha=float(alpha), linewidths=0,
            rasterized=pixels, label=f"{cloud.label} ({count:,})",
        )  # fmt: skip
    poles = _upper(np.concatenate([cloud.poles for cloud in clouds]))
    grows = poles[np.abs(poles) >= 1]
    if len(grows):
        axes.scatter(
            grows.real, grows.imag, s=14, facecolors="none", edgecolors=MARK, linewidths=0.8,
            label=growing.format(f"{len(grows):,}"), rasterized=len(grows) > MOST_MARKERS,
        )  # fmt: skip
    largest = float(np.abs(poles).max(initial=0))
    edge = float(np.clip(1.03 * largest, 1.06, 2))
    axes.set_aspect("equal")
    axes.set_xlim(-edge, edge)
    axes.set_ylim(-0.03, edge)
    axes.set_xticks([-1, -0.5, 0, 0.5, 1], ["−1", "−0.5", "0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_xlabel("Re a")
    axes.set_ylabel("Im a")


def _upper(poles: Complex) -> Complex:
    return poles.real + 1j * np.abs(poles.imag)
