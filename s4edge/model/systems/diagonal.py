"""Diagonal systems, one with a single input and output per channel: S4, S4D and DSS layers.

As a torch module they are a convolution and a recurrence.

Parameters say where a pole is so that it cannot leave the unit disk:
``|a| = exp(-exp(log_decay))``. They may be float32; kernels and coefficients are formed from them
in float64, so that both ways of running see the same poles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from s4edge.arrays import Float
from s4edge.errors import S4EdgeError
from s4edge.model.convolution import causal_convolution, kernel_spectrum
from s4edge.model.kinds import Kind
from s4edge.model.mode_sums import Groups
from s4edge.model.stages import Stages, numbers
from s4edge.model.systems.base import Held, Systems, check_inputs, check_numbers
from s4edge.model.systems.coordinates import Coordinates, weight_unit
from s4edge.systems.cancellation import LARGEST_CANCELLATION, cancellation
from s4edge.systems.modes import Modes

# exp(-exp(5)) is below the smallest double that matters: a pole at zero for every purpose.
_LARGEST_LOG_DECAY = 5.0


def _channel_of(counts: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.repeat(np.arange(len(counts)), counts))


@dataclass(frozen=True)
class DiagonalConfig:
    """The diagonal systems of one layer, one per channel.

    Attributes:
        kind: the upstream layer they came from, for people to read.
        state_size: in the checkpoint's own count (``d_state``); after reduction the average.
        states_per_size: real states that one unit of ``state_size`` stands for (2 for DSS, whose
            ``d_state`` counts complex modes; 1 for S4D and S4Block).
        pairs: conjugate pairs of each channel, (channels,).
        reals: real poles of each channel, (channels,).
        growing: modes of each channel with ``|a| >= 1``, (channels,). They exist only in kernels
            of one fixed length (see `ModelConfig.length`) and have no recurrence.
        inputs: the feature that each channel reads, (channels,); empty where channel i reads
            feature i.
        kernel_length: None, or where kernels are cut, as upstream cuts them (``l_max``,
            ``max_kernel_length``). A recurrence goes on where the kernel is cut: it is exact for
            as many samples.
        feedthrough: whether there is a ``D``.
    """

    TAG: ClassVar[str] = "diagonal"

    kind: str
    state_size: int | float
    states_per_size: int
    pairs: tuple[int, ...]
    reals: tuple[int, ...]
    growing: tuple[int, ...]
    inputs: tuple[int, ...] = ()
    kernel_length: int | None = None
    feedthrough: bool = True

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.pairs)

    @property
    def real_states(self) -> int:
        """Real states of all channels together."""
        return 2 * sum(self.pairs) + sum(self.reals) + 2 * sum(self.growing)

    @property
    def exact_samples(self) -> int | None:
        """See `kernel_length`."""
        return self.kernel_length

    @property
    def cannot_stream(self) -> str | None:
        """Growing modes."""
        if not sum(self.growing):
            return None
        return (
            "it has modes with |a| >= 1, which are meaningful up to the kernel's length only: "
            "their recurrence would be unstable"
        )

    @property
    def facts(self) -> dict[str, Any]:
        """Modes that are no stable conjugate pairs."""
        return {"real_poles": sum(self.reals), "growing_modes": sum(self.growing)}

    def check(self, where: str, features: int) -> None:
        """See `s4edge.model.systems.base.SystemsConfig`."""
        counts = (*self.pairs, *self.reals, *self.growing, *self.inputs)
        check_numbers(
            (f"{where}: state_size", self.state_size, 0),
            (f"{where}: states_per_size", self.states_per_size, 1),
            (f"{where}: kernel_length", self.kernel_length, 1),
            (f"{where}: a count of modes", min(counts, default=0), 0),
            (f"{where}: a count of modes", max(counts, default=0), 0),
        )
        check_inputs(where, self.inputs, features)
        channels = {len(self.pairs), len(self.reals), len(self.growing)}
        if len(channels) != 1 or len(self.inputs) not in (0, self.channels):
            raise S4EdgeError(
                f"{where}: the counts of modes are not of equally many channels; "
                "the file is damaged"
            )


class Coefficients(NamedTuple):
    """``a - 1`` of each pole: real and imaginary part of pairs, (P,) each; of real poles, (R,)."""

    pull: Tensor
    swing: Tensor
    real_pull: Tensor


class DiagonalSystems(Systems):
    """H single-input single-output diagonal systems with possibly different numbers of modes.

    Each kind of mode is stored for all channels end to end, channel by channel:
    conjugate pairs (P of them), real poles (R), growing modes (G).

    Args:
        config: the counts of modes per channel.
        length: the kernel length that growing modes are given for, if there are any; where it is
            None, that of the configuration.
    """

    config: DiagonalConfig

    if TYPE_CHECKING:
        D: Tensor
        inputs: Tensor
        real_sign: Tensor
        pair_channel: Tensor
        real_channel: Tensor
        growing_channel: Tensor

    def __init__(self, config: DiagonalConfig, length: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.length = config.kernel_length if length is None else length
        self._held: Held | None = None
        self._groups: Groups | None = None
        pairs, reals, growing = sum(config.pairs), sum(config.reals), sum(config.growing)
        self.pair_log_decay = nn.Parameter(torch.zeros(pairs))
        self.pair_angle = nn.Parameter(torch.zeros(pairs))
        self.pair_weight = nn.Parameter(torch.zeros(pairs, 2))
        self.real_log_decay = nn.Parameter(torch.zeros(reals))
        self.real_weight = nn.Parameter(torch.zeros(reals))
        self.register_buffer("real_sign", torch.ones(reals))
        # A growing mode is stored from the kernel's end backwards, where it decays:
        # Re(weight * exp(log_pole * (k - (length - 1)))).
        self.growing_log_rate = nn.Parameter(torch.zeros(growing))
        self.growing_angle = nn.Parameter(torch.zeros(growing))
        self.growing_weight = nn.Parameter(torch.zeros(growing, 2))
        if config.feedthrough:
            self.D = nn.Parameter(torch.zeros(config.channels))
        else:
            self.register_buffer("D", torch.zeros(config.channels), persistent=False)
        inputs = torch.tensor(config.inputs, dtype=torch.int64)
        self.register_buffer("inputs", inputs, persistent=False)
        self.register_buffer("pair_channel", _channel_of(config.pairs), persistent=False)
        self.register_buffer("real_channel", _channel_of(config.reals), persistent=False)
        self.register_buffer("growing_channel", _channel_of(config.growing), persistent=False)

    # From and to modes

    @staticmethod
    def from_modes(
        modes: Modes,
        D: np.ndarray | None,
        *,
        kind: str,
        state_size: float,
        states_per_size: int,
        length: int | None = None,
        inputs: tuple[int, ...] = (),
        kernel_length: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> DiagonalSystems:
        """Build the module from modes in double precision and the feed-through ``D`` (channels,).

        Its parameters are of ``dtype``; if None, of torch's default, or float64 where weights
        cancel so much that float32 would spoil the kernel. The other arguments are those of
        `DiagonalConfig`; ``D`` may be None.

        Raises:
            S4EdgeError: a mode is not stable and no ``length`` is given, or a number overflows.
        """
        stable, real = modes.is_stable, modes.is_real
        length = kernel_length if length is None else length
        if not stable.all() and length is None:
            worst = int(np.argmax(modes.log_pole.real))
            raise S4EdgeError(
                f"channel {modes.channel[worst]} has an unstable mode, "
                f"|a| = {np.exp(modes.log_pole[worst].real):.6g}: "
                "it has no recurrence that stays bounded and cannot be reduced"
            )

        def count(mask: np.ndarray) -> tuple[int, ...]:
            return tuple(np.bincount(modes.channel[mask], minlength=modes.channels).tolist())

        pairs, reals, growing = stable & ~real, stable & real, ~stable
        systems = DiagonalSystems(
            DiagonalConfig(
                kind=kind,
                state_size=state_size,
                states_per_size=states_per_size,
                pairs=count(pairs),
                reals=count(reals),
                growing=count(growing),
                inputs=inputs,
                kernel_length=kernel_length,
                feedthrough=D is not None,
            ),
            length,
        ).double()
        pole, weight = modes.log_pole, modes.weight
        with np.errstate(divide="ignore"):
            log_decay = np.minimum(np.log(np.maximum(-pole.real, 0)), _LARGEST_LOG_DECAY)
        values = {
            "pair_log_decay": log_decay[pairs],
            "pair_angle": pole.imag[pairs],
            "pair_weight": np.stack([weight.real[pairs], weight.imag[pairs]], axis=-1),
            "real_log_decay": log_decay[reals],
            "real_weight": weight.real[reals],
            "real_sign": np.where(pole.imag[reals] == 0, 1.0, -1.0),
        }
        if D is not None:
            values["D"] = np.asarray(D, dtype=np.float64)
        if growing.any():
            assert length is not None
            with np.errstate(over="ignore", invalid="ignore"):
                at_end = weight[growing] * np.exp(pole[growing] * (length - 1))
            values |= {
                "growing_log_rate": pole.real[growing],
                "growing_angle": pole.imag[growing],
                "growing_weight": np.stack([at_end.real, at_end.imag], axis=-1),
            }
        with torch.no_grad():
            for name, value in values.items():
                getattr(systems, name).copy_(torch.from_numpy(np.ascontiguousarray(value)))
        if dtype is None:
            spoiled = cancellation(modes) > LARGEST_CANCELLATION
            dtype = torch.float64 if spoiled else torch.get_default_dtype()
        systems = systems.to(dtype)
        if not all(torch.isfinite(tensor).all() for tensor in systems.state_dict().values()):
            raise S4EdgeError("poles or weights are out of the range of floating point numbers")
        return systems

    def modes(self) -> Modes:
        """All modes in double precision (a growing mode with its weight at the kernel's start)."""
        with torch.no_grad():
            log_poles, weights, channels = self._all_modes()
        return Modes.make(log_poles.numpy(), weights.numpy(), channels.numpy(), self.D.shape[0])

    def _all_modes(self) -> tuple[Tensor, Tensor, Tensor]:
        """``log a``, ``w`` (complex128) and the channel of every mode, in no order of channels."""
        pair_rate = -self.pair_log_decay.double().exp()
        real_rate = -self.real_log_decay.double().exp()
        real_angle = math.pi * (self.real_sign < 0).double()
        pair_weight, growing_weight = self.pair_weight.double(), self.growing_weight.double()
        growing = torch.complex(self.growing_log_rate.double(), self.growing_angle.double())
        at_start = torch.complex(growing_weight[:, 0], growing_weight[:, 1])
        if self.length is not None:
            at_start = at_start * torch.exp(-growing * (self.length - 1))
        real_weight = self.real_weight.double()
        return (
            torch.cat(
                [
                    torch.complex(pair_rate, self.pair_angle.double()),
                    torch.complex(real_rate, real_angle),
                    growing,
                ]
            ),
            torch.cat(
                [
                    torch.complex(pair_weight[:, 0], pair_weight[:, 1]),
                    torch.complex(real_weight, torch.zeros_like(real_weight)),
                    at_start,
                ]
            ),
            torch.cat([self.pair_channel, self.real_channel, self.growing_channel]),
        )

    # As a convolution

    def kernel(self, length: int) -> Tensor:
        """(H, length) float64 kernels ``K[k] = Re sum_n w_n a_n**k``."""
        log_pole, weight, channel = self._all_modes()
        if self._groups is None or self._groups.order.device != channel.device:
            self._groups = Groups.of(channel, self.D.shape[0])
        return self._groups.kernel(log_pole, weight, length)

    def forward(self, u: Tensor) -> Tensor:
        """Run whole sequences: ``u`` (batch, length, features) to (batch, length, H).

        The transform is in `transform`'s precision, float64: in float32 its rounding error is as
        large at a sequence's quiet beginning as at its loudest sample, and a norm after it would
        show it. The answer lies in memory with time last (see `s4edge.model.time_last`).
        """
        v = self.read(u).mT.to(self.transform)
        length = u.shape[1]
        if self._held is None:
            response, spectrum = self.response(length), None
        else:
            if length not in self._held:
                response = self.response(length)
                self._held[length] = response, kernel_spectrum(response, length)
            response, spectrum = self._held[length]
        return causal_convolution(v, response, spectrum).mT.to(u.dtype)

    def response(self, length: int) -> Tensor:
        """(H, length or less) the kernel with ``D`` in it, in the transform's precision."""
        kernel = self.kernel(min(length, self.config.kernel_length or length))
        at_once = kernel[:, 0] + self.D.double()
        return torch.cat([at_once[:, None], kernel[:, 1:]], dim=1).to(self.transform)

    def hold_(self, responses: Held | None) -> None:
        """Use these, by length, instead of computing them; None: compute them again."""
        self._held = responses

    def freeze_(self, transform: torch.dtype) -> DiagonalSystems:
        """As of all systems; kernels and their spectra are kept, by length."""
        super().freeze_(transform)
        self._held = {}
        return self

    def coordinates(self, length: int) -> Coordinates:
        """By what moves in place of poles and weights while they are trained."""
        with torch.no_grad():
            unit = weight_unit(self.modes(), self.kernel(length)).to(self.D)
        parameters = {**dict(self.named_parameters()), "D": self.D}
        channels = self.pair_channel, self.real_channel
        return Coordinates(parameters, channels, unit, self.config.feedthrough)

    def read(self, u: Tensor) -> Tensor:
        """(..., features) to (..., H): the feature that each channel reads."""
        return u[..., self.inputs] if self.config.inputs else u

    # As a recurrence

    @property
    def state_width(self) -> int:
        """Floats of state per stream: two per pair, one per real pole."""
        return 2 * self.pair_angle.shape[0] + self.real_weight.shape[0]

    def coefficients(self) -> Coefficients:
        """What the recurrence multiplies by, float64.

        Raises:
            S4EdgeError: the systems have growing modes.
        """
        if self.growing_channel.numel():
            raise S4EdgeError(
                "the kernel holds modes with |a| >= 1, which are only meaningful up to its "
                f"length of {self.length} samples: there is no stable recurrence"
            )
        decay, angle = self.pair_log_decay.double().exp(), self.pair_angle.double()
        half_sine = torch.sin(angle / 2)
        real_decay = self.real_log_decay.double().exp()
        return Coefficients(
            pull=torch.expm1(-decay) * torch.cos(angle) - 2 * half_sine**2,
            swing=torch.exp(-decay) * torch.sin(angle),
            real_pull=torch.where(
                self.real_sign > 0, torch.expm1(-real_decay), -torch.exp(-real_decay) - 1
            ),
        )

    def step(
        self, u: Tensor, state: Tensor, coefficients: Coefficients | None = None
    ) -> tuple[Tensor, Tensor]:
        """One sample: ``u`` (batch, features) and the state, (batch, state_width), to ``y``.

        The state is float64, since slow poles gather rounding errors over as many samples as they
        remember; it is updated as ``x + (a - 1) x + u``. Give `coefficients` where many steps are
        taken. Raises as `coefficients` does.
        """
        c = self.coefficients() if coefficients is None else coefficients
        pairs = self.pair_angle.shape[0]
        sample = self.read(u).double()
        re, im, real = state.split([pairs, pairs, state.shape[-1] - 2 * pairs], dim=-1)
        next_re = re + (c.pull * re - c.swing * im) + sample[:, self.pair_channel]
        next_im = im + (c.pull * im + c.swing * re)
        next_real = real + c.real_pull * real + sample[:, self.real_channel]
        weight = self.pair_weight.double()
        y = self.D.double() * sample
        y = y.index_add(1, self.pair_channel, weight[:, 0] * next_re - weight[:, 1] * next_im)
        y = y.index_add(1, self.real_channel, self.real_weight.double() * next_real)
        return y.to(u.dtype), torch.cat([next_re, next_im, next_real], dim=-1)

    # As stages

    def lower(self, stages: Stages, u: str, backward: bool) -> str:
        """A recurrence, or of whole sequences, where their kernels are none, a convolution."""
        config, direction = self.config, "backward_" if backward else ""
        modes, D, name = self.modes(), numbers(self.D), f"{direction}systems"
        if config.inputs:
            u = stages.gathered(f"{direction}inputs", u, config.inputs)
        kernel = self._cut_kernel(backward) if stages.over_sequences else None
        if kernel is None:
            return stages.recurrence(name, u, modes, D, backward)
        if backward:
            kernel[:, 0] += D
        at_once = D if config.feedthrough and not backward else None
        return stages.convolution(name, u, kernel, at_once, backward)

    def _cut_kernel(self, backward: bool) -> Float | None:
        """The kernels (channels, taps) of whole sequences that are no recurrence, without ``D``."""
        config = self.config
        if not config.real_states:
            return np.zeros((config.channels, 1)) if backward else None
        # Behind the one length that growing modes have they only grow, out of float32's range.
        ends = [config.kernel_length, self.length if sum(config.growing) else None]
        cut = min((each for each in ends if each is not None), default=None)
        return None if cut is None else numbers(self.kernel(cut))

    # What they are

    @property
    def log_radius(self) -> float:
        """Of all modes, growing ones too."""
        return float(self.modes().log_pole.real.max(initial=-np.inf))


KIND = Kind(DiagonalConfig, DiagonalSystems)
