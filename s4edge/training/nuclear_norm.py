"""The Hankel nuclear norm of every channel, as a penalty that makes a model compressible.

It is the sum of a channel's Hankel singular values: as the sum of a matrix's singular values is the
convex stand-in of its rank, so is this of the order. With ``X_ij = b_i c_j / (1 - a_i a_j)``, the
cross Gramian over all modes and their conjugates, the Hankel singular values of a single-input
single-output system are ``|lambda(X)|``, and with ``b = c = sqrt(w)`` X is complex symmetric:
``X = V Lambda V^-1`` with ``V^T V`` diagonal. So ``sum |lambda| = tr(S X)`` with
``S = V sign(Lambda) V^-1``, and the gradient is that of ``tr(S X)`` with S held fixed. S turns
slowly and is renewed every few steps.

Sources: K. Fernando and H. Nicholson, "On the structure of balanced and other principal
representations of SISO systems" (1983), for the cross Gramian; M. Forgione, M. Mejari and D. Piga,
"Model order reduction of deep structured state-space models: a system-theoretic approach" (2024),
for the norm as a regularizer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from s4edge.model.systems.diagonal import DiagonalSystems
from s4edge.training.trainable import Trainable

_RENEWED = 10
# Hankel singular values below this part of a channel's largest are its rounding errors.
_NEGLIGIBLE = 1e-7
# Channels whose norm is at most this, and modes whose weight is this part of the channel's largest.
_SILENT = 1e-12


class NuclearNorm:
    """Of all channels of a model, relative to what it was at the start and averaged.

    Args:
        trainable: whose systems are looked at, at its start. Real poles are left as they are.
    """

    def __init__(self, trainable: Trainable) -> None:
        self.trainable = trainable
        with torch.no_grad():
            start = self._cross_gramians()
            norms = [_norms(_sign(X), X) for X in start]
            # A silent channel has none to be relative to: it is left alone.
            self.scales = [torch.where(each > _SILENT, each, torch.inf) for each in norms]
        self.renew()

    def renew(self) -> None:
        """At the next step; to be called before every epoch, from which a run may be taken up."""
        self.steps, self.signs = 0, list[Tensor]()

    def __call__(self) -> Tensor:
        """The penalty; call it once a step."""
        grams = self._cross_gramians()
        if self.steps % _RENEWED == 0:
            self.signs = [_sign(X.detach()) for X in grams]
        self.steps += 1
        norms = [_norms(S, X) for S, X in zip(self.signs, grams, strict=True)]
        shares = [norm / scale for norm, scale in zip(norms, self.scales, strict=True)]
        return torch.cat(shares).mean() if shares else torch.zeros(())

    def _cross_gramians(self) -> list[Tensor]:
        """Per layer and number of pairs, (channels, 2 pairs, 2 pairs)."""
        out = []
        for each in self.trainable.moved:
            if not isinstance(each.systems, DiagonalSystems):
                continue
            values = each.coordinates()
            decay = values["pair_log_decay"].double().exp()
            log_pole = torch.complex(-decay, values["pair_angle"].double())
            weight = values["pair_weight"].double()
            weight = torch.complex(weight[:, 0], weight[:, 1]) / 2
            counts = torch.bincount(each.systems.pair_channel)
            starts = counts.cumsum(0) - counts
            for count in counts.unique().tolist():
                if count:
                    at = starts[counts == count, None] + torch.arange(count, device=starts.device)
                    out.append(_cross_gramian(log_pole[at], weight[at]))
        return out


def _norms(S: Tensor, X: Tensor) -> Tensor:
    """(channels,) ``tr(S X)``."""
    return torch.einsum("hij,hji->h", S, X).real


def _cross_gramian(log_pole: Tensor, weight: Tensor) -> Tensor:
    """(channels, 2 n, 2 n) from (channels, n) pairs, with the conjugates."""
    z = torch.cat([log_pole, log_pole.conj()], dim=1)
    w = torch.cat([weight, weight.conj()], dim=1)
    # The square root has no slope at 0: such weights stay as they are.
    least = _SILENT * w.detach().abs().amax(dim=1, keepdim=True) + torch.finfo(torch.float64).tiny
    root = torch.sqrt(torch.where(w.detach().abs() < least, least.to(w.dtype), w))
    return root[:, :, None] * root[:, None, :] / -_expm1(z[:, :, None] + z[:, None, :])


def _expm1(z: Tensor) -> Tensor:
    """Accurate for small ``|z|``, which torch's own is not for complex numbers."""
    x, y = z.real, z.imag
    return torch.complex(torch.expm1(x) * y.cos() - 2 * torch.sin(y / 2) ** 2, x.exp() * y.sin())


def _sign(X: Tensor) -> Tensor:
    values, vectors = torch.linalg.eig(X)
    size = values.abs()
    keep = size > _NEGLIGIBLE * size.amax(dim=1, keepdim=True)
    # V^T V is diagonal: its inverse is V^T over these.
    lengths = vectors.square().sum(dim=1)
    factors = torch.where(keep, torch.sgn(values.real) / lengths, torch.zeros_like(lengths))
    return (vectors * factors[:, None, :]) @ vectors.mT
