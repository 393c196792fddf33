"""The systems of one layer in one direction: what is reduced as a whole, channel by channel."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from s4edge.arrays import Bool, FloatPerChannel, IntPerChannel
from s4edge.errors import S4EdgeError
from s4edge.model.block import Block
from s4edge.model.configuration import backward_name
from s4edge.model.sequence_model import SequenceModel
from s4edge.model.systems.base import Systems
from s4edge.model.systems.diagonal import DiagonalSystems
from s4edge.systems.modes import Modes


@dataclass(frozen=True)
class Unit:
    """Systems to be reduced.

    Attributes:
        block: index of their block.
        backward: whether they run from the end of a sequence.
        name: of the layer, for people.
        systems: as they are.
        stable: their modes that can be reduced.
        growing: those with ``|a| >= 1``, which are kept.
    """

    block: int
    backward: bool
    name: str
    systems: DiagonalSystems
    stable: Modes
    growing: Modes

    @property
    def kept_states(self) -> IntPerChannel:
        """(channels,) real states of growing modes."""
        return 2 * np.asarray(self.systems.config.growing, dtype=np.int64)

    @property
    def _least_of_each(self) -> IntPerChannel:
        """(channels,) real states below which no channel can go."""
        return self.kept_states + (self.stable.real_states > 0)

    def has_room(self, state: int) -> bool:
        """Whether growing modes leave room at a state size."""
        return bool((self._least_of_each <= state * self.systems.config.states_per_size).all())

    def uniform_orders(self, state: int) -> IntPerChannel:
        """(channels,) real states that the stable modes of each may keep at a state size.

        Raises:
            S4EdgeError: growing modes leave no room.
        """
        config = self.systems.config
        allowed = state * config.states_per_size
        if not self.has_room(state):
            least_of_each = self._least_of_each
            most = int(self.kept_states.max()) // 2
            least = -(-int(least_of_each.max()) // config.states_per_size)
            raise S4EdgeError(
                f"{self.name}: channels have up to {most} growing modes (|a| >= 1, meaningful up "
                f"to the kernel's length of {self.systems.length} samples only); they have no "
                "infinite-horizon Gramian, cannot be reduced and are kept, which takes a state "
                f"size of at least {least}"
            )
        return np.minimum(allowed - self.kept_states, self.stable.real_states)

    def with_modes(
        self, stable: Modes, feedthrough: FloatPerChannel | None, state: float
    ) -> DiagonalSystems:
        """New systems; channels whose modes are all kept are kept to the bit.

        Args:
            stable: what takes the place of the stable modes.
            feedthrough: (channels,) the new ``D``; None for the old one.
            state: the state size that is written down.
        """
        before = self.systems
        D = before.D.detach().double().numpy()
        if feedthrough is not None and not before.config.feedthrough and not feedthrough.any():
            feedthrough = None
        has_feedthrough = before.config.feedthrough or feedthrough is not None
        after = DiagonalSystems.from_modes(
            Modes.concatenate([stable, self.growing]),
            (D if feedthrough is None else feedthrough) if has_feedthrough else None,
            kind=before.config.kind,
            state_size=state,
            states_per_size=before.config.states_per_size,
            length=before.length,
            inputs=before.config.inputs,
            kernel_length=before.config.kernel_length,
            dtype=before.D.dtype,
        )
        whole = stable.real_states >= self.stable.real_states
        if whole.all() and after.config.feedthrough == before.config.feedthrough:
            return copy.deepcopy(before)
        _keep_to_the_bit(before, after, whole)
        return after


def units_of(model: SequenceModel) -> list[Unit]:
    """All diagonal systems of a model, block by block, backward ones after forward ones."""
    out = []
    for index, backward, name, systems in all_systems(model):
        if isinstance(systems, DiagonalSystems):
            modes = systems.modes()
            stable = modes.is_stable
            parts = modes.select(stable), modes.select(~stable)
            out.append(Unit(index, backward, name, systems, *parts))
    return out


def all_systems(model: SequenceModel) -> Iterator[tuple[int, bool, str, Systems]]:
    """Of every kind, in the order of `units_of`: block, whether backward, name, systems."""
    for index, block in enumerate(model.blocks):
        name = block.config.name
        yield index, False, name, block.systems
        if block.backward_systems is not None:
            yield index, True, backward_name(name), block.backward_systems


def install(block: Block, unit: Unit, systems: Systems) -> None:
    """Put systems into a block, and what they are into its configuration."""
    if unit.backward:
        block.backward_systems = systems
        block.config = dataclasses.replace(block.config, backward=systems.config)
    else:
        block.systems = systems
        block.config = dataclasses.replace(block.config, systems=systems.config)


def systems_of(model: SequenceModel, unit: Unit) -> DiagonalSystems:
    """What stands in a model in a unit's place."""
    block = model.blocks[unit.block]
    systems = block.backward_systems if unit.backward else block.systems
    assert isinstance(systems, DiagonalSystems)
    return systems


def _keep_to_the_bit(before: DiagonalSystems, after: DiagonalSystems, kept: Bool) -> None:
    """Copy the parameters of growing modes and of the channels ``kept``, (channels,).

    Through `Modes` their logarithms were rounded once more.
    """
    parameters = dict(before.named_parameters())
    everyone = np.ones_like(kept)
    for kind, counts, wanted in (
        ("pair", "pairs", kept),
        ("real", "reals", kept),
        ("growing", "growing", everyone),
    ):
        # They differ where a pair's pole was exactly real.
        same = np.equal(getattr(before.config, counts), getattr(after.config, counts))
        chosen = torch.from_numpy(wanted & same)
        into, out_of = (chosen[getattr(systems, f"{kind}_channel")] for systems in (after, before))
        with torch.no_grad():
            for name, parameter in after.named_parameters():
                if name.startswith(f"{kind}_"):
                    parameter[into] = parameters[name][out_of]
