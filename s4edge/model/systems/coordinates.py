"""What moves in place of a layer's poles and weights while it is trained.

AdamW moves every number by about the learning rate, whatever its size. Poles in radians per sample
and weights that hold the step size are no such numbers: a slow pole would be thrown across its own
width. So a start is kept, and what is trained is the way from it, in units of its own:

- ``step``, one number per channel: the logarithm of a factor on its step size, by which all its
  poles' logarithms and weights grow together, as upstream's ``log_dt``;
- ``decay``: of each pole, in ``log(-log |a|)``, so that ``|a| < 1`` whatever happens;
- ``angle``: in widths of the pole, as upstream's ``A_imag`` is in units of the step size;
- ``weight``: in units of the channel's kernel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from s4edge.systems.modes import Modes

# No pole gets slower than this, unless it was: -log |a| of 1e-9.
_LEAST_LOG_DECAY = math.log(1e-9)
# Radians: a pole that dies at once need not turn by its width.
_LARGEST_ANGLE_UNIT = 0.5


class Coordinates(nn.Module):
    """Of one layer's systems; all zero at the start.

    Args:
        start: parameters of `s4edge.model.systems.diagonal.DiagonalSystems`, by name.
        channels: of its pairs, and of its real poles.
        unit: (channels,) of the weights, from `weight_unit`.
        has_feedthrough: whether ``D`` moves.
    """

    if TYPE_CHECKING:
        start_pair_log_decay: Tensor
        start_pair_angle: Tensor
        start_pair_weight: Tensor
        start_real_log_decay: Tensor
        start_real_weight: Tensor
        start_feedthrough: Tensor
        angle_unit: Tensor
        pair_unit: Tensor
        real_unit: Tensor
        pair_channel: Tensor
        real_channel: Tensor

    def __init__(
        self,
        start: Mapping[str, Tensor],
        channels: tuple[Tensor, Tensor],
        unit: Tensor,
        has_feedthrough: bool,
    ) -> None:
        super().__init__()
        self.has_feedthrough = has_feedthrough
        D, (pair, real) = start["D"].detach(), channels
        width = (2 * start["pair_log_decay"].detach().exp()).clamp(max=_LARGEST_ANGLE_UNIT)
        for name in ("pair_log_decay", "pair_angle", "pair_weight", "real_log_decay",
                     "real_weight"):  # fmt: skip
            self.register_buffer(f"start_{name}", start[name].detach().clone())
        self.register_buffer("start_feedthrough", D.clone())
        self.register_buffer("angle_unit", width)
        self.register_buffer("pair_unit", unit[pair, None])
        self.register_buffer("real_unit", unit[real])
        self.register_buffer("pair_channel", pair, persistent=False)
        self.register_buffer("real_channel", real, persistent=False)
        self.step = nn.Parameter(torch.zeros_like(D))
        self.decay = nn.Parameter(D.new_zeros(len(pair)))
        self.angle = nn.Parameter(D.new_zeros(len(pair)))
        self.weight = nn.Parameter(D.new_zeros(len(pair), 2))
        self.real_decay = nn.Parameter(D.new_zeros(len(real)))
        self.real_weight = nn.Parameter(D.new_zeros(len(real)))
        self.feedthrough = nn.Parameter(torch.zeros_like(D))
        if not self.has_feedthrough:
            self.feedthrough.requires_grad_(False)

    def forward(self) -> dict[str, Tensor]:
        """Parameters of the systems, by name."""
        of_pair, of_real = self.step[self.pair_channel], self.step[self.real_channel]
        values = {
            "pair_log_decay": _decay(self.start_pair_log_decay, self.decay + of_pair),
            "pair_angle": (self.start_pair_angle + self.angle_unit * self.angle) * of_pair.exp(),
            "pair_weight": (self.start_pair_weight + self.pair_unit * self.weight)
            * of_pair.exp()[:, None],
            "real_log_decay": _decay(self.start_real_log_decay, self.real_decay + of_real),
            "real_weight": (self.start_real_weight + self.real_unit * self.real_weight)
            * of_real.exp(),
        }
        if self.has_feedthrough:
            values["D"] = self.start_feedthrough + self.feedthrough
        return values


def _decay(start: Tensor, change: Tensor) -> Tensor:
    return torch.maximum(start + change, start.clamp(max=_LEAST_LOG_DECAY))


def weight_unit(modes: Modes, kernel: Tensor) -> Tensor:
    """(channels,): what a weight is when it is one of many that make up the kernel.

    The root mean square of the weights, but not more than the kernel's largest value: where
    weights cancel they are large and may not move as far.

    Args:
        modes: of the systems.
        kernel: (channels, length) of them.
    """
    total = torch.zeros(modes.channels, dtype=torch.float64)
    channel = torch.from_numpy(modes.channel)
    total.index_add_(0, channel, torch.from_numpy(abs(modes.weight) ** 2))
    count = torch.bincount(channel, minlength=modes.channels).clamp(min=1)
    unit = torch.minimum((total / count).sqrt(), kernel.abs().amax(dim=1).cpu())
    # A channel that is silent can become heard.
    return unit + 1e-3 * unit.mean() + 1e-12
