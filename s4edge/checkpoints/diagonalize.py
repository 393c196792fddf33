"""From state matrices that are not diagonal to modes, with a check of what that costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s4edge.arrays import Complex
from s4edge.checkpoints.stored_kernels import Kernels
from s4edge.errors import S4EdgeError
from s4edge.systems.modes import log1p

# Real, or complex where the system is.
Array = NDArray[np.inexact[Any]]

# Kernels are compared with the recurrence over so many samples, and refused beyond this error.
SAMPLES = 1024
TOLERANCE = 1e-5
# Samples in which a kernel shows how large it is.
_BEGINNING = 16
# Until growing modes have grown by exp(this).
_GROWTH = 20.0
# Beyond exp(this) a growing mode takes digits of the others.
_SWAMPED = 3.0


@dataclass(frozen=True)
class DenseSystems:
    """Discrete systems ``x' = (I + shift) x + B u``, ``y = Re C x'``, one for each feature.

    A slow pole is a small eigenvalue of ``shift``, which keeps its accuracy.

    Attributes:
        shift: (features, n, n), real or complex.
        B: (features, n).
        C: (rows, features, n).
    """

    shift: Array
    B: Array
    C: Array

    @staticmethod
    def bilinear(A: Array, B: Array, C: Array) -> DenseSystems:
        """From continuous systems whose ``A`` and ``B`` were multiplied by their step sizes."""
        below = np.eye(A.shape[-1]) - A / 2
        shift = np.linalg.solve(below, A)
        return DenseSystems(shift, np.linalg.solve(below, B[..., None])[..., 0], C)

    def truncated(self, length: int) -> DenseSystems:
        """With ``C (I - A^length)`` for ``C``."""
        return replace(self, C=np.einsum("rhm,hmn->rhn", self.C, self._rest(length)))

    def untruncated(self, length: int) -> DenseSystems:
        """With the ``C`` of which ``C (I - A^length)`` is stored."""
        left = np.swapaxes(self._rest(length), -1, -2)
        columns = np.linalg.solve(left, np.moveaxis(self.C, 0, -1))
        C = np.moveaxis(columns, -1, 0).copy()
        for feature, shift in enumerate(self.shift):
            value, V = np.linalg.eig(shift)
            growth = length * log1p(value.astype(np.complex128))
            if growth.real.max() > _SWAMPED:
                # The power of a growing mode swamps the others; mode by mode it does not.
                modes = (self.C[:, feature] @ V) / -np.expm1(growth)
                C[:, feature] = _as(C, np.linalg.solve(V.T, modes.T).T)
        return replace(self, C=C)

    def _rest(self, length: int) -> Array:
        identity = np.eye(self.shift.shape[-1])
        rest: Array = identity - np.linalg.matrix_power(identity + self.shift, length)
        return rest

    def kernels(self, feature: int, samples: int) -> Array:
        """(rows, samples) kernels of one feature, by powers of its state matrix."""
        power = np.eye(self.shift.shape[-1]) + self.shift[feature]
        states = self.B[feature][:, None]
        while states.shape[1] < samples:
            states = np.concatenate([states, power @ states], axis=1)
            power = power @ power
        return np.real(self.C[:, feature] @ states[:, :samples])


def _as(like: Array, values: Array) -> Array:
    """Without imaginary parts, which are rounding, where there are none in ``like``."""
    return np.real(values) if np.isrealobj(like) else values


@contextmanager
def refusing(where: str) -> Iterator[None]:
    """Turns what linear algebra cannot do into a refusal.

    Raises:
        S4EdgeError: a matrix is singular or not finite.
    """
    try:
        yield
    except np.linalg.LinAlgError as error:
        raise _refusal(where, str(error)) from error


def diagonalize(
    systems: DenseSystems, where: str, kind: str, state_size: int, samples: int = SAMPLES
) -> Kernels:
    """Modes of dense systems; real poles and conjugate pairs where their matrices are real.

    Args:
        systems: in discrete time.
        where: for messages: the file and the layer.
        kind: of the layer, for people.
        state_size: upstream's ``d_state``.
        samples: over which the modes are compared with the recurrence.

    Raises:
        S4EdgeError: the modes do not give the recurrence's kernels, or there is no diagonal form.
    """
    features, n = systems.B.shape
    rows = len(systems.C)
    poles, owners, weights = [], [], []
    conditions, error, cancellation = [], 0.0, 0.0
    for feature in range(features):
        with refusing(where):
            value, V = np.linalg.eig(systems.shift[feature])
            gain = np.linalg.solve(V, systems.B[feature])
            conditions.append(float(np.linalg.cond(V)))
        weight = (systems.C[:, feature] @ V) * gain
        if np.isrealobj(systems.shift):
            value, weight = _fold(value.astype(np.complex128), weight)
        log_pole = log1p(value)
        # Of growing modes, as far as their kernels keep some of what they began with.
        growth = float(log_pole.real.max(initial=0))
        steps = np.arange(min(samples, 1 + int(_GROWTH / growth)) if growth > 0 else samples)
        expected = systems.kernels(feature, len(steps))
        got = (weight @ np.exp(log_pole[:, None] * steps)).real
        # Of what a kernel has reached by then: some begin small.
        peak = np.maximum.accumulate(np.abs(expected), axis=1)
        peak = np.maximum(peak, peak[:, min(_BEGINNING, len(steps)) - 1, None])
        peak = np.maximum(peak, np.finfo(float).tiny)
        worst = np.max(np.abs(got - expected) / peak)
        if not worst <= TOLERANCE:
            raise _refusal(where, f"kernels are off by {worst:.1e} of their peak")
        error = max(error, float(worst))
        cancellation = max(cancellation, float(np.max(np.abs(weight).sum(axis=1) / peak[:, -1])))
        poles.append(log_pole)
        owners.append(np.full(len(log_pole), feature))
        weights.append(np.broadcast_to(weight, (rows, len(log_pole))))
    return Kernels(
        log_pole=np.concatenate(poles),
        feature=np.concatenate(owners),
        weight=np.concatenate(weights, axis=1),
        features=features,
        kind=kind,
        state_size=state_size,
        states_per_size=1 if np.isrealobj(systems.shift) else 2,
        notes=(
            f"state matrices of {n} states diagonalized: condition of the eigenvectors up to "
            f"{max(conditions):.1e}, kernels off by at most {error:.1e} of their peak, weights "
            f"cancel by up to {cancellation:.1e}",
        ),
    )


def _fold(value: Complex, weight: Array) -> tuple[Complex, Complex]:
    """One of each conjugate pair, which LAPACK gives next to each other, with both weights."""
    partner = np.roll(weight, -1, axis=-1).conj()
    folded = np.where(value.imag > 0, weight + partner, weight)
    keep = value.imag >= 0
    return value[keep], folded[:, keep]


def _refusal(where: str, reason: str) -> S4EdgeError:
    return S4EdgeError(
        f"{where}: its state matrix has no diagonal form that is accurate enough ({reason}); "
        "train with mode='diag', which is diagonal to begin with"
    )
