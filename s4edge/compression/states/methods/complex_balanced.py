"""Balanced truncation of the complex half-system: the baseline of the source paper.

One mode of each conjugate pair makes a complex system whose output's real part is used; it is
balanced as it stands. Accuracy is spent on an imaginary part that nobody reads: kept to compare
with `s4edge.compression.states.methods.balanced`, not to be used.

Source: H. Ezoe and K. Sato, "Model Compression Method for S4 with Diagonal State Space Layers using
Balanced Truncation" (2024).
"""

from __future__ import annotations

import numpy as np

from s4edge.arrays import Float, IntPerChannel
from s4edge.compression.states.base import UNKNOWN, Reduced, ReductionMethod, Use
from s4edge.systems.balancing import NEGLIGIBLE
from s4edge.systems.generators import same_shape
from s4edge.systems.gramians import cauchy_factor
from s4edge.systems.modes import Modes, expm1, log1p


def complex_balanced_truncation(modes: Modes, orders: IntPerChannel, use: Use = UNKNOWN) -> Reduced:
    """Reduce every channel to ``order // 2`` complex modes.

    See `s4edge.compression.states.base.Method`.
    """
    parts: list[Modes] = []
    hankel: list[Float] = [np.zeros(0)] * modes.channels
    bound = np.zeros(modes.channels)
    for channels in same_shape(modes):
        group = modes.of_channels(channels)
        log_pole = group.log_pole.reshape(group.channels, -1)
        generator = np.sqrt(group.weight).reshape(group.channels, -1)
        # With weights split evenly Q is the conjugate of P.
        factors, _ = cauchy_factor(log_pole, generator)
        for index, channel in enumerate(channels):
            L, b = factors[index], generator[index]
            U, sigma, Vh = np.linalg.svd(L.T @ L)
            kept = int(np.count_nonzero(sigma > NEGLIGIBLE * sigma[:1].max(initial=0)))
            kept = min(int(orders[channel]) // 2, kept)
            scale = 1 / np.sqrt(sigma[:kept])
            T = L @ (Vh[:kept].conj().T * scale)
            W = L.conj() @ (U[:, :kept] * scale)
            values, vectors = np.linalg.eig(W.conj().T @ (expm1(log_pole[index])[:, None] * T))
            weight = (b @ T @ vectors) * np.linalg.solve(vectors, W.conj().T @ b)
            hankel[channel] = sigma
            bound[channel] = 2 * sigma[kept:].sum()
            parts.append(Modes.make(log1p(values), weight, np.full(kept, channel), modes.channels))
    return Reduced(Modes.concatenate(parts), hankel, bound)


METHOD = ReductionMethod(
    name="complex-balanced",
    reduce=complex_balanced_truncation,
    summary="of the complex half-system, the source paper's way, to compare with",
    told="balanced truncation of each channel’s complex half-system (the source paper's way)",
    refinable=False,
)
