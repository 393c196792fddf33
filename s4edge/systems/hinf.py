"""Measured H-infinity norms of differences between systems."""

from __future__ import annotations

import numpy as np

from s4edge.arrays import Complex, Float, FloatPerChannel, Int
from s4edge.systems.modes import Modes, expm1
from s4edge.systems.parallel import batches_of, map_batches

# Where a resonance of half-width 1 - |a| can peak, in half-widths from the pole's angle.
_AROUND = np.array([-8, -4, -2, -1, -0.5, -0.25, 0, 0.25, 0.5, 1, 2, 4, 8])
_UNIFORM = 129
_REFINED = 12
_ROUNDS = 9
_FINAL = 3
# Channels worked on at once.
_MOST = 32
# Entries of a table over points and modes that stay in the cache.
_CACHED = 2**15


def frequency_response(modes: Modes, omega: Float) -> Complex:
    """``sum_k K[k] exp(-i omega k)`` of stable systems.

    Args:
        modes: the systems.
        omega: (channels, points) radians per sample.

    Returns:
        (channels, points).
    """
    log_pole, weight = modes.padded()
    return _response(log_pole, weight, omega)


def _response(log_pole: Complex, weight: Complex, omega: Float) -> Complex:
    out = np.zeros(omega.shape, dtype=np.complex128)
    # A mode and its conjugate, half the weight each; mode by mode to bound the memory.
    for column in range(log_pole.shape[1]):
        pole, w = log_pole[:, column, None], weight[:, column, None]
        out -= 0.5 * w / expm1(pole - 1j * omega)
        out -= 0.5 * w.conj() / expm1(pole.conj() - 1j * omega)
    return out


def hinf_distance(first: Modes, second: Modes) -> FloatPerChannel:
    """(channels,) largest gain of the difference of two sets of stable systems, as found.

    The difference is sampled uniformly and around the angle of every pole as wide as its resonance,
    and the highest points are refined by parabolas. What is found is attained, so it is a lower
    bound of the norm; it is the norm to about 1e-6 relative unless a peak lies between samples.
    """
    difference = first.minus(second)
    found = np.zeros(difference.channels)

    def measure(channels: Int) -> None:
        part = difference.of_channels(channels)
        shape = (len(channels), -1)
        found[channels] = _largest_gains(part.log_pole.reshape(shape), part.weight.reshape(shape))

    counts = np.bincount(difference.channel, minlength=difference.channels)
    blocks: list[Int] = []
    for count in np.unique(counts[counts > 0]):
        size = max(1, min(_MOST, 2**12 // int(count)))
        blocks += batches_of(np.flatnonzero(counts == count), size)
    map_batches(measure, blocks)
    return found


def _largest_gains(log_pole: Complex, weight: Complex) -> Float:
    """(systems,) largest gains of systems given as (systems, modes)."""
    systems = len(weight)
    scale = np.abs(weight).max(axis=1, keepdims=True)
    weight = weight / np.where(scale == 0, 1, scale)
    near = np.abs(log_pole.imag)[..., None] - np.expm1(log_pole.real)[..., None] * _AROUND
    near = np.abs(near.reshape(systems, -1))
    uniform = np.broadcast_to(np.linspace(0, np.pi, _UNIFORM), (systems, _UNIFORM))
    # Gains are even functions around 0 and pi, where resonances fold.
    omega = np.concatenate([uniform, np.minimum(near, np.abs(2 * np.pi - near))], axis=1)
    omega.sort(axis=1)
    # Of points that coincide one is kept, the others go to the end, pi.
    omega[:, 1:][omega[:, 1:] == omega[:, :-1]] = np.pi
    omega.sort(axis=1)
    gain = _Gain(log_pole, weight)
    height = gain(omega)

    first = np.hstack([np.ones((systems, 1), bool), omega[:, 1:] > omega[:, :-1]])
    # Beyond the ends the mirror image of what is before them.
    before = np.hstack([height[:, 1:2], height[:, :-1]])
    after = np.hstack([height[:, 1:], height[:, -1:]])
    peaks = np.where(first & (height >= before) & (height >= after), height, -1.0)
    top = np.argsort(-peaks, axis=1, kind="stable")[:, :_REFINED]
    refined = _refine(gain, omega, height, top)
    # What decides is evaluated plainly.
    order = np.argsort(-gain(refined), axis=1, kind="stable")[:, :_FINAL]
    points = [np.take_along_axis(refined, order, axis=1), np.take_along_axis(omega, top[:, :1], 1)]
    best: Float = np.abs(_response(log_pole, weight, np.hstack(points))).max(axis=1)
    return best * scale[:, 0]


def _refine(gain: _Gain, omega: Float, height: Float, top: Int) -> Float:
    """(systems, peaks) points of largest gain around the samples with the indices ``top``.

    The inverse of a resonance's squared gain is a parabola, and of every peak nearly one.
    """
    last = omega.shape[1] - 1
    take = np.take_along_axis
    middle, f_middle = take(omega, top, 1), take(height, top, 1)
    low = np.where(top == 0, -take(omega, np.minimum(top + 1, last), 1), take(omega, top - 1, 1))
    high = take(omega, np.minimum(top + 1, last), 1)
    high = np.where(high == middle, 2 * middle - low, high)
    f_low, f_high = gain(low), gain(high)
    for round in range(_ROUNDS):
        wider = np.where(middle - low > high - middle, (low + middle) / 2, (middle + high) / 2)
        point = wider
        if round >= 2:
            with np.errstate(all="ignore"):
                left, right = middle - low, high - middle
                rise = left * (f_middle**-2 - f_high**-2)
                fall = right * (f_middle**-2 - f_low**-2)
                vertex = middle - 0.5 * (left * rise - right * fall) / (rise + fall)
            inside = (vertex > low) & (vertex < high) & (vertex != middle)
            point = np.where(inside, vertex, wider)
        f_point = gain(point)
        better, right_of = f_point > f_middle, point > middle
        # The new bracket's ends are the old ones, or what lost against the new middle.
        end, f_end = np.where(better, middle, point), np.where(better, f_middle, f_point)
        moves_low = better == right_of
        low, f_low = np.where(moves_low, end, low), np.where(moves_low, f_end, f_low)
        high, f_high = np.where(moves_low, high, end), np.where(moves_low, f_high, f_end)
        middle, f_middle = np.where(better, point, middle), np.where(better, f_point, f_middle)
    return middle


class _Gain:
    """Gains of systems in real arithmetic, as accurate as `frequency_response` and faster.

    With ``a = rho exp(i theta)``, ``kappa = 1 - rho^2`` and ``z = exp(i omega)`` a mode and its
    conjugate are ``w/2 / (1 - a/z) + conj(w)/2 / (1 - conj(a)/z) = N / (x + i y)``, where

        x = (1 - rho)^2 cos omega + 2 rho (cos omega - cos theta),  y = kappa sin omega,
        N = (Re w x + Re w kappa cos omega) / 2 - rho Im w sin theta + i Re w sin omega.
    """

    def __init__(self, log_pole: Complex, weight: Complex) -> None:
        rho, theta = np.exp(log_pole.real), np.abs(log_pole.imag)
        w_real = weight.real
        w_imag = np.where(log_pole.imag < 0, -weight.imag, weight.imag)
        self._kappa = -np.expm1(2 * log_pole.real)
        kappa, v = self._kappa, rho * w_imag * np.sin(theta)
        self._theta, self._sine, self._cosine = theta, np.sin(theta / 2), np.cos(theta / 2)
        self._four_rho, self._square = 4 * rho, np.expm1(log_pole.real) ** 2
        # What the sums over modes of 1 / (x^2 + y^2) and of x / (x^2 + y^2) are weighted with.
        rest = w_real * (1 - kappa / 2)
        self._plain = np.stack([kappa * rest, w_real * kappa**2 / 2, v * kappa], axis=-1)
        self._x = np.stack([w_real * kappa / 2, v, rest], axis=-1)
        self._constant = w_real.sum(axis=1) / 2

    def __call__(self, omega: Float) -> Float:
        """Gains at ``omega`` (systems, points), same shape."""
        systems, points = omega.shape
        out = np.empty(omega.shape)
        rows = max(1, _CACHED // (points * self._theta.shape[1]))
        span = max(1, _CACHED // self._theta.shape[1]) if rows == 1 else points
        for row in range(0, systems, rows):
            for start in range(0, points, span):
                here = slice(row, row + rows), slice(start, start + span)
                out[here] = self._some(here[0], omega[here])
        return out

    def _some(self, rows: slice, omega: Float) -> Float:
        sine, cosine = np.sin(omega), np.cos(omega)
        half_sine, half_cosine = np.sin(omega / 2)[..., None], np.cos(omega / 2)[..., None]
        # cos omega - cos theta = 2 sin((theta + omega) / 2) sin((theta - omega) / 2)
        x = np.tan((self._theta[rows, None] - omega[..., None]) / 2)
        y = x * x
        y += 1
        x /= np.sqrt(y, out=y)
        np.multiply(half_cosine, self._sine[rows, None], out=y)
        y += half_sine * self._cosine[rows, None]
        x *= y
        x *= self._four_rho[rows, None]
        np.multiply(cosine[..., None], self._square[rows, None], out=y)
        x += y
        np.multiply(sine[..., None], self._kappa[rows, None], out=y)
        y *= y
        y += x * x
        np.divide(1, y, out=y)
        x *= y
        a, b = y @ self._plain[rows], x @ self._x[rows]
        real = self._constant[rows, None] + sine * sine * a[..., 0]
        real += cosine * b[..., 0] - b[..., 1]
        imag = sine * (b[..., 2] - cosine * a[..., 1] + a[..., 2])
        return np.hypot(real, imag)
