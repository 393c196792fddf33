"""What a layer's channels lose, seen from the model's output.

Two measures are mixed. The first is exact to first order: what the change of a channel's output
does to random projections of the model's output. It trusts the model to be linear around what it
computes, and errors at different times to cancel as they do there. The second trusts neither: the
energy of the channel's own error, weighed by the mean square of the projections' gradients, which
is what the first would be if gradients were white in time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from s4edge.arrays import Float
from s4edge.compression.states.kernel_error import (
    KernelError,
    Projected,
    error_of_response,
    error_of_spectra,
    transform,
    with_later,
)
from s4edge.model.systems.diagonal import DiagonalSystems

# Of the kernels that are compared: bounds the memory, a row of lags per sequence.
MOST_LAGS = 3072
# Of the energy of the channel's own error.
LOCAL_SHARE = 0.5
# Data tell nothing of what a kernel does behind their end, and a stream may be longer: there it
# should be the original's as if white noise of that share of the input's power went on.
_NOISE = 1e-3
# Lags behind the end at which kernels are compared, and up to how many lengths.
_LATER, _FURTHEST = 48, 16


@dataclass(frozen=True)
class LayerSignals:
    """Signals around the systems of one layer in one direction, sequences ending together.

    Attributes:
        original: (features, sequences, length) what they read in the original model.
        reached: the same of the model as it is reduced so far.
        gradient: (channels, sequences, length) of projections of the output, see `Gradients`.
        counted: samples of all sequences that count.
        energy: mean square of the model's output, per sequence: errors are relative to it.
    """

    original: Tensor
    reached: Tensor
    gradient: Tensor
    counted: int
    energy: float


@dataclass(frozen=True)
class ChannelError:
    """The errors of one channel's kernel, per sequence and relative to the output's energy.

    Attributes:
        mixed: what is made small.
        projected: of the model's output alone, to first order.
    """

    mixed: KernelError
    projected: Projected


class LayerError:
    """`ChannelError` for the channels of one layer.

    Args:
        systems: as they are before reduction.
        signals: around them.
    """

    def __init__(self, systems: DiagonalSystems, signals: LayerSignals) -> None:
        self.signals, self.inputs = signals, systems.config.inputs
        length = signals.original.shape[2]
        self.lags = min(length, systems.config.kernel_length or length, MOST_LAGS)
        with torch.no_grad():
            self.feedthrough: Float = systems.D.double().numpy()
            self.kernel: Float = systems.kernel(self.lags).numpy()
        modes = systems.modes()
        growing = modes.select(~modes.is_stable)
        self.growing = growing.kernel(self.lags) if len(growing.channel) else None
        self.later = np.zeros(0, np.int64)
        if systems.config.kernel_length is None and self.growing is None:
            ends = np.geomspace(self.lags, _FURTHEST * self.lags, _LATER + 1)[1:]
            self.later = np.unique(ends.astype(np.int64))
        self.aim = modes.at(self.later)

    def stable_kernel(self, h: int) -> Float:
        """(lags,) of the stable modes of channel ``h`` and its feed-through."""
        kernel = self.kernel[h] - (0 if self.growing is None else self.growing[h])
        kernel[0] += self.feedthrough[h]
        return kernel

    def channel(self, h: int) -> ChannelError:
        """Of channel ``h``."""
        signals = self.signals
        u, reached = self._inputs(h)
        of_reached, response = transform(reached), self._response(h, self.kernel[h])
        if self.growing is not None:
            # Growing modes stay as they are: what is left is for the others.
            kept = self._response(h, self.growing[h], direct=False)
        if reached is u:
            response = response if self.growing is None else response - kept
            of_aim = of_reached * response
            own = error_of_response(of_reached, response, self.lags)
        else:
            of_aim = transform(u) * response
            if self.growing is not None:
                of_aim -= of_reached * kept
            own = error_of_spectra(of_reached, of_aim, self.lags)
        gradient = signals.gradient[h].to(u.dtype)
        # Per sequence, and of as many samples as count on average.
        sensitivity = float(gradient.square().sum(dtype=torch.float64))
        sensitivity *= len(u) / signals.counted / len(gradient) / signals.energy
        own = own.scaled(LOCAL_SHARE * sensitivity / len(u))
        power = float(reached.square().sum(dtype=torch.float64))
        noise = _NOISE * sensitivity * power / len(u)
        own = with_later(own, self.later, self.aim[h], noise)
        projected = self._projected(gradient, of_reached, of_aim)
        mixed = own.plus(projected.error().scaled(1 - LOCAL_SHARE))
        return ChannelError(mixed, projected)

    def projected(self, h: int) -> Projected:
        """Of channel ``h``, without an aim: for changes of its kernel."""
        _, reached = self._inputs(h)
        of_reached = transform(reached)
        gradient = self.signals.gradient[h].to(reached.dtype)
        return self._projected(gradient, of_reached, torch.zeros_like(of_reached))

    def _projected(self, gradient: Tensor, of_reached: Tensor, of_aim: Tensor) -> Projected:
        scale = 1 / np.sqrt(len(gradient) * self.signals.energy)
        return Projected.of_spectra(of_reached, of_aim, transform(gradient * scale), self.lags)

    def _response(self, h: int, kernel: Float, direct: bool = True) -> Tensor:
        """The spectrum of a kernel of channel ``h``, with its feed-through if ``direct``."""
        signals = self.signals.original
        padded = np.zeros(signals.shape[2])
        padded[: len(kernel)] = kernel
        if direct:
            padded[0] += self.feedthrough[h]
        return transform(torch.from_numpy(padded)).to(_complex(signals.dtype))

    def _inputs(self, h: int) -> tuple[Tensor, Tensor]:
        """Of channel ``h`` in the original model and in the reduced one."""
        feature = self.inputs[h] if self.inputs else h
        u = self.signals.original[feature].contiguous()
        same = self.signals.reached is self.signals.original
        return u, u if same else self.signals.reached[feature].contiguous()


def _complex(dtype: torch.dtype) -> torch.dtype:
    return torch.complex64 if dtype == torch.float32 else torch.complex128
