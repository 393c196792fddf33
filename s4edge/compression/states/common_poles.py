"""Reduction of systems that share their continuous-time modes, as upstream's layouts may demand.

A layer of such a layout has one set of poles for many systems, which differ in their weights and,
by feature, in their step size: ``K[k] = Re sum_n w_n exp(z_n k)`` with
``z_n = d_re Re Lambda_n + i d_im Im Lambda_n``. Balancing each system would give each its own
poles. Here all systems together keep one smaller set, chosen to make the sum of their relative
errors small. The error is the mean square of the difference's output for an input that is
correlated from sample to sample (`CORRELATION`): white noise would have the slow part of a kernel,
which most signals live on, given up for the sake of its high frequencies.

- For given poles the best weights of a system are a linear least-squares problem whose Gramian is
  closed form, so that the poles are the only unknowns ("variable projection": G. Golub and
  V. Pereyra, 1973).
- A greedy choice among the given poles, the one that lowers the error most at each step
  (orthogonal matching pursuit: Y. Pati, R. Rezaiifar and P. Krishnaprasad, 1993), is where a
  descent starts that moves them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.optimize
import torch
from torch import Tensor

from s4edge.arrays import Complex, Float, Int
from s4edge.systems.gramians import real_factor

# Of the input, between neighbouring samples.
CORRELATION = 0.9
# Features worked on at once, to bound the memory.
_AT_ONCE = 32
# On the Gramian's unit diagonal, where the descent needs no more digits than that.
_RIDGE = 1e-9
# Directions of a system's modes that are so nearly dependent are left out of its weights.
_DEPENDENT = 1e-12
# Of a pole to `CORRELATION`.
_TOO_NEAR = 1e-6
_STEPS = 300


@dataclass(frozen=True)
class SharedModes:
    """Systems with shared modes.

    Attributes:
        pole: (modes,) in continuous time, real part negative.
        steps: (features, 2) step sizes of the poles' real and imaginary parts.
        weight: (rows, features, modes) of the discrete modes; rows are systems with one step size.
        bilinear: whether discrete poles come by the bilinear map; else by the exponential.
    """

    pole: Complex
    steps: Float
    weight: Complex
    bilinear: bool = False

    @property
    def log_pole(self) -> Complex:
        """(features, modes) logarithms of the discrete poles, the angle not wrapped."""
        z = self.steps[:, :1] * self.pole.real + 1j * self.steps[:, 1:] * self.pole.imag
        if not self.bilinear:
            return z
        below = 1 - z / 2
        # |1 + z/2|^2 - |1 - z/2|^2 = 2 Re z keeps slow poles accurate.
        modulus = 0.5 * np.log1p(2 * z.real / np.abs(below) ** 2)
        out: Complex = modulus + 1j * np.angle((1 + z / 2) / below)
        return out

    def with_modes(self, pole: Complex, weight: Complex) -> SharedModes:
        """Other modes at the same step sizes."""
        return SharedModes(pole, self.steps, weight, self.bilinear)

    def parts(self) -> list[SharedModes]:
        """Some features at a time."""
        starts = range(0, len(self.steps), _AT_ONCE)
        return [
            SharedModes(self.pole, self.steps[some], self.weight[:, some], self.bilinear)
            for some in (slice(start, start + _AT_ONCE) for start in starts)
        ]


def reduce_shared(systems: SharedModes, count: int, steps: int = _STEPS) -> SharedModes:
    """Systems with ``count`` shared modes.

    Args:
        systems: stable.
        count: fewer than there are.
        steps: of the descent, at most; 0 for the best choice of the poles as they are.
    """
    factors = [_factor(part.log_pole)[0] for part in systems.parts()]
    target = np.concatenate(
        [
            np.einsum("fij,rfj->rfi", factor, _target(part))
            for factor, part in zip(factors, systems.parts(), strict=True)
        ],
        axis=1,
    )
    energy = (target**2).sum(axis=-1)
    share = np.where(energy > 0, 1 / np.where(energy > 0, energy, 1), 0)
    if not share.any():
        return systems.with_modes(systems.pole[:count], systems.weight[..., :count])
    chosen = _greedy(np.concatenate(factors), target * np.sqrt(share)[..., None], count)
    pole = systems.pole[chosen]
    if steps:
        pole = _descend(systems, pole, share / np.count_nonzero(share), steps)
    return systems.with_modes(pole, refit(systems, pole))


def refit(systems: SharedModes, pole: Complex) -> Complex:
    """The weights, (rows, features, modes), with which other poles come closest."""
    solutions = []
    for part in systems.parts():
        old = len(part.pole)
        new_log_pole = part.with_modes(pole, part.weight).log_pole
        factor, scale = _factor(np.concatenate([part.log_pole, new_log_pole], axis=1))
        re, im = np.split(factor, 2, axis=2)
        given = np.concatenate([re[..., :old], im[..., :old]], axis=2)
        new = np.concatenate([re[..., old:], im[..., old:]], axis=2)
        target = _target(part)
        for f in range(len(part.steps)):
            # On no system are the weights larger than they must be.
            solved = scipy.linalg.lstsq(new[f], given[f] @ target[:, f].T, cond=_DEPENDENT)[0]
            p, q = np.split(solved.T, 2, axis=1)
            solutions.append((p - 1j * q) * scale[f, old:])
    return np.stack(solutions, axis=1)


def _target(systems: SharedModes) -> Float:
    """(rows, features, 2 modes) the systems' coefficients of `_factor`'s functions."""
    weight = systems.weight / _scale(systems.log_pole)
    return np.concatenate([weight.real, -weight.imag], axis=-1)


def _scale(log_pole: Complex) -> Float:
    return np.sqrt(-np.expm1(2 * log_pole.real))


def _factor(log_pole: Complex) -> tuple[Float, Float]:
    """``R`` with ``R^T R`` the Gramian of the functions ``s Re f``, then ``s Im f``.

    ``f`` is ``exp(z k)`` through the filter ``root(1 - r^2) / (1 - r / z)``, which makes the input
    from white noise: a combination of ``a^k`` and ``r^k``.

    Args:
        log_pole: (features, modes) ``z``.

    Returns:
        (features, 2 modes + 1, 2 modes), and ``s``, (features, modes), by which the functions are
        normalized.
    """
    r, scale, n = CORRELATION, _scale(log_pole), log_pole.shape[1]
    # A pole at r itself would need k r^k: it is moved by less than shows.
    near = np.abs(np.exp(log_pole) - r) < _TOO_NEAR
    log_pole = np.where(near, log_pole - 2 * _TOO_NEAR, log_pole)
    one = np.ones((len(log_pole), 1))
    factor = real_factor(log_pole, scale / np.sqrt(2) + 0j, np.log(r) * one + 0j, one)
    re, im, last = factor[..., :n], factor[..., n : 2 * n], factor[..., 2 * n :]
    a = np.exp(log_pole)
    p = (np.sqrt(1 - r * r) * a / (a - r))[:, None]
    q = (np.sqrt(1 - r * r) * scale * r / (a - r))[:, None]
    first = p.real * re - p.imag * im - q.real * last
    second = p.real * im + p.imag * re - q.imag * last
    return np.concatenate([first, second], axis=2), scale


def _greedy(factor: Float, residual: Float, count: int) -> Int:
    """The modes that together explain most, chosen one after another.

    Args:
        factor: of all features, as `_factor`.
        residual: (rows, features, coordinates) what is to be explained, weighted.
        count: of modes to choose.
    """
    # (features, coordinates, modes, 2): what of each function the chosen ones leave.
    left = np.stack(np.split(factor, 2, axis=2), axis=-1)
    chosen: list[int] = []
    for _ in range(count):
        first, second = left[..., 0], left[..., 1]
        # The residual's part in the plane of both functions, by their 2 x 2 Gramian.
        a, b, c = (first**2).sum(axis=1), (second**2).sum(axis=1), (first * second).sum(axis=1)
        p = np.einsum("rfi,fin->rfn", residual, first)
        q = np.einsum("rfi,fin->rfn", residual, second)
        area = a * b - c * c
        # Where the two are parallel, as for real poles, the longer one stands for both.
        flat = area <= _RIDGE * a * b
        plane = (b * p**2 - 2 * c * p * q + a * q**2) / np.where(flat, 1, area)
        tiny = _DEPENDENT**2
        line = np.maximum(p**2 / np.maximum(a, tiny), q**2 / np.maximum(b, tiny))
        gone = np.maximum(a, b) < _DEPENDENT
        gain = np.where(gone, 0, np.where(flat, line, plane)).sum(axis=(0, 1))
        gain[chosen] = -1
        best = int(np.argmax(gain))
        chosen.append(best)
        for column in (0, 1):
            vector = left[:, :, best, column]
            norm = np.linalg.norm(vector, axis=1, keepdims=True)
            vector = np.where(norm > _DEPENDENT, vector / np.maximum(norm, _DEPENDENT), 0)
            residual = residual - np.einsum("rfi,fi->rf", residual, vector)[..., None] * vector
            along = np.einsum("finc,fi->fnc", left, vector)
            left = left - vector[:, :, None, None] * along[:, None]
    return np.sort(np.asarray(chosen, dtype=np.int64))


def _descend(systems: SharedModes, start: Complex, share: Float, steps: int) -> Complex:
    """Poles of a smaller error, by L-BFGS from ``start``; the real parts stay negative."""
    # A pole moves in units of its own width, by a factor of exp(5) at most.
    width, frequency = torch.from_numpy(-start.real), torch.from_numpy(start.imag.copy())
    given = torch.from_numpy(systems.log_pole)
    # (features, modes, rows)
    weight = torch.from_numpy(np.transpose(systems.weight * np.sqrt(share)[..., None], (1, 2, 0)))
    step = torch.from_numpy(systems.steps)
    count = len(start)

    def poles(x: Tensor) -> tuple[Tensor, Tensor]:
        return -width * torch.exp(x[:count]), frequency + width * x[count:]

    def objective(values: Float) -> tuple[float, Float]:
        x = torch.from_numpy(values.copy()).requires_grad_()
        re, im = poles(x)
        z = torch.complex(step[:, :1] * re, step[:, 1:] * im)
        if systems.bilinear:
            z = torch.log((1 + z / 2) / (1 - z / 2))
        explained = _explained(given, weight, z)
        (gradient,) = torch.autograd.grad(explained, x)
        return -explained.item(), -gradient.numpy()

    found = scipy.optimize.minimize(
        objective, np.zeros(2 * count), jac=True, method="L-BFGS-B",
        bounds=[(-5, 5)] * count + [(None, None)] * count,
        options={"maxiter": steps, "maxcor": 20, "ftol": 1e-10, "gtol": 1e-9},
    )  # fmt: skip
    re, im = poles(torch.from_numpy(found.x))
    out: Complex = re.numpy() + 1j * im.numpy()
    return out


def _explained(given: Tensor, weight: Tensor, log_pole: Tensor) -> Tensor:
    """The energy of the systems' projections onto modes ``log_pole``, (features, modes).

    For an input of autocorrelation ``r^|t|`` the inner product of ``a^k`` and ``b^k`` is
    ``(1 + F(a) + conj F(b)) / (1 - a conj(b))`` with ``F(a) = r a / (1 - r a)``.

    Args:
        given: (features, modes) logarithms of the systems' poles.
        weight: (features, modes, rows) their weights.
        log_pole: of the modes to project on.
    """
    r = CORRELATION
    scale = torch.sqrt(-torch.expm1(2 * log_pole.real))
    a, b = torch.exp(log_pole), torch.exp(given)
    F, E = r * a / (1 - r * a), r * b / (1 - r * b)

    def inner(second: Tensor, of_second: Tensor) -> Tensor:
        sums = 1 + F[:, :, None] + of_second[:, None, :]
        return scale[:, :, None] * sums / (1 - a[:, :, None] * second[:, None, :])

    S = inner(a.conj(), F.conj()) * scale[:, None, :]
    T = inner(a, F) * scale[:, None, :]
    # The functions Re f and Im f = Re(-i f); <Re u f, Re v g> = Re(u conj(v) S + u v T) / 2.
    top = torch.cat([(S + T).real, (T - S).imag], dim=2)
    bottom = torch.cat([(S + T).imag, (S - T).real], dim=2)
    gramian = torch.cat([top, bottom], dim=1) / 2
    # Of a real pole the second function vanishes.
    gramian = gramian + _RIDGE * torch.eye(gramian.shape[1], dtype=gramian.dtype)
    products = (inner(b.conj(), E.conj()) @ weight.conj() + inner(b, E) @ weight) / 2
    products = torch.cat([products.real, products.imag], dim=1)
    solved = torch.linalg.solve_triangular(torch.linalg.cholesky(gramian), products, upper=False)
    return (solved**2).sum()
