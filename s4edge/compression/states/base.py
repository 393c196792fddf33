"""What every method of reduction takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from s4edge.arrays import Float, FloatPerChannel, FloatPerChannelAndLag, Int, IntPerChannel
from s4edge.systems.modes import Modes
from s4edge.systems.realization import Balanced


@dataclass(frozen=True)
class Use:
    """What is known of how systems are used; a method takes of it what it can.

    Attributes:
        autocorrelation: (channels, lags) of each channel's input, uncentred,
            ``rho(tau) = E u_t u_{t + tau}`` from lag 0 on; None for white noise.
        horizon: samples after which nobody looks, or None.
    """

    autocorrelation: FloatPerChannelAndLag | None = None
    horizon: int | None = None

    def of_channels(self, channels: Int) -> Use:
        """The same for some of the channels."""
        rho = self.autocorrelation
        return Use(None if rho is None else rho[channels], self.horizon)


UNKNOWN = Use()


@dataclass(frozen=True)
class Reduced:
    """Reduced systems and what theory says of them.

    Attributes:
        modes: the reduced systems; a channel may get fewer states than it was allowed where its
            Hankel singular values vanish.
        hankel: per channel, its Hankel singular values, descending; empty where the method forms
            none.
        error_bound: (channels,) upper bound on the H-infinity norm of the error, nan where the
            method has none.
        feedthrough: (channels,) what is added to ``D``, or None.
    """

    modes: Modes
    hankel: list[Float]
    error_bound: FloatPerChannel
    feedthrough: FloatPerChannel | None = None


class Method(Protocol):
    """A method of reduction."""

    def __call__(self, modes: Modes, orders: IntPerChannel, use: Use = UNKNOWN) -> Reduced:
        """Reduce every channel to its order.

        Args:
            modes: stable systems.
            orders: (channels,) real states that each channel may keep, at most what it has.
            use: what is known of their inputs.
        """
        ...


class Nested(NamedTuple):
    """A method in two parts, for many orders at little more than the time of one.

    Attributes:
        balanced: modes and their use to systems whose states are ordered, one for each channel.
        cut: their first states, (channels,) of each, as reduced systems.
    """

    balanced: Callable[[Modes, Use], list[Balanced]]
    cut: Callable[[list[Balanced], IntPerChannel], Reduced]


@dataclass(frozen=True)
class ReductionMethod:
    """A method as the command line and the reports know it; it stands beside its function.

    Attributes:
        name: on the command line and in a model's history.
        reduce: the function.
        summary: one line for people.
        told: what was done, for a sentence that begins with "Reduced by".
        calibrated: the variant that takes the autocorrelation of a channel's input into account,
            or None.
        nested: the same in two parts, where it is one that orders states, or None.
        refinable: whether its result is meant as a start for refinement (a baseline is not, and
            shared modes would be shared no more).
        moves_feedthrough: whether it changes ``D``.
        cuts_by_hankel: whether it keeps what belongs to a channel's largest Hankel singular values,
            so that a cut may be drawn there.
    """

    name: str
    reduce: Method
    summary: str
    told: str
    calibrated: Method | None = None
    nested: Nested | None = None
    refinable: bool = True
    moves_feedthrough: bool = False
    cuts_by_hankel: bool = False

    def of(self, use: Use) -> Method:
        """The variant that makes most of what is known."""
        if use.autocorrelation is None or self.calibrated is None:
            return self.reduce
        return self.calibrated
