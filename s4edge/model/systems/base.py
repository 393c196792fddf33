"""What is asked of systems, whatever their kind: of their configuration, and of their module.

Systems are causal and begin at rest. They read the features that enter a layer and give one output
per channel, over whole sequences and, sample by sample, as a recurrence; what they compute they
also say as stages (`Stages`), of which every file of a model is written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from s4edge.errors import S4EdgeError
from s4edge.model.stages import Stages

Held = dict[int, tuple[Tensor, Tensor | None]]
"""By length: a response, and its spectrum where no gradient is wanted."""


class SystemsConfig(Protocol):
    """What systems are, apart from their numbers: a frozen dataclass, whose fields go into files.

    Attributes:
        TAG: of the kind, as files have it.
    """

    TAG: ClassVar[str]

    @property
    def kind(self) -> str:
        """The upstream layer they came from, for people to read."""
        ...

    @property
    def state_size(self) -> float:
        """In the checkpoint's own count (``d_state``); 0 without states."""
        ...

    @property
    def channels(self) -> int:
        """Outputs."""
        ...

    @property
    def real_states(self) -> int:
        """Real states of all channels together."""
        ...

    @property
    def exact_samples(self) -> int | None:
        """Samples for which the recurrence is what whole sequences give; None for any number."""
        ...

    @property
    def cannot_stream(self) -> str | None:
        """Why there is no stable recurrence, as in "it has ..."; None if there is one."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """What ``s4edge inspect`` tells of the kind alone, by key."""
        ...

    def check(self, where: str, features: int) -> None:
        """Raise S4EdgeError unless numbers from a file make sense.

        Args:
            where: whose systems they are, for messages.
            features: that enter.
        """
        ...


class Systems(nn.Module, ABC):
    """The systems of one layer in one direction of time.

    Attributes:
        config: of them.
        transform: the precision of what is computed of whole sequences.
    """

    config: SystemsConfig
    transform: torch.dtype = torch.float64

    # Of whole sequences

    @abstractmethod
    def forward(self, u: Tensor) -> Tensor:
        """Run whole sequences: ``u`` (batch, length, features) to (batch, length, channels)."""

    @abstractmethod
    def response(self, length: int) -> Tensor:
        """What an impulse at each feature gives, (channels, features, length).

        (channels, length) where each channel hears one feature only; shorter where the rest is 0.
        """

    # As a recurrence

    @property
    @abstractmethod
    def state_width(self) -> int:
        """Floats of state per stream."""

    @abstractmethod
    def coefficients(self) -> Any:
        """What `step` multiplies by, in float64, to be made once for many steps.

        Raises:
            S4EdgeError: there is no stable recurrence.
        """

    @abstractmethod
    def step(self, u: Tensor, state: Tensor, coefficients: Any = None) -> tuple[Tensor, Tensor]:
        """One sample: ``u`` (batch, features) to ``y`` (batch, channels), and the next state.

        The state is (batch, state_width), float64; without `coefficients` they are made here.
        Raises as those do.
        """

    # As stages

    @abstractmethod
    def lower(self, stages: Stages, u: str, backward: bool) -> str:
        """Say what they compute of a value.

        Args:
            stages: to add to.
            u: what they read.
            backward: whether they run from the ends of whole sequences, on the samples to come;
                then names of stages begin with "backward_".

        Returns:
            Their answer's name.
        """

    # What they are

    @property
    @abstractmethod
    def log_radius(self) -> float:
        """``log |a|`` of the slowest pole, by which they forget; -inf without states."""

    # What is done with them

    def freeze_(self, transform: torch.dtype) -> Systems:
        """Parameters change no more; take a precision."""
        self.requires_grad_(False)
        self.transform = transform
        return self

    def coordinates(self, length: int) -> nn.Module | None:
        """What is trained in place of their parameters; None: the parameters as they are.

        It gives the parameters by name, and those that it gives are not trained themselves;
        `response` is formed of them once for all parts of a batch, and held by `hold_`.

        Args:
            length: of the sequences.
        """
        return None

    def hold_(self, responses: Held | None) -> None:
        """Use these instead of computing them; None: compute them again.

        Asked of systems that have `coordinates`.
        """
        raise NotImplementedError


def check_numbers(*limits: tuple[str, float | None, int]) -> None:
    """What numbers are, they, and the least that they may be; None is none.

    Raises:
        S4EdgeError: one of them is less, or larger than any that makes sense.
    """
    for what, value, least in limits:
        if value is not None and not least <= value < 2**28:
            raise S4EdgeError(f"{what} is {value}; the file is damaged")


def check_inputs(where: str, inputs: tuple[int, ...], features: int) -> None:
    """Raise S4EdgeError unless what channels read is among the features that enter."""
    if max(inputs, default=0) >= features:
        raise S4EdgeError(f"{where}: inputs are not among {features} features")
