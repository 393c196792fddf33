"""The kinds of systems that there are."""

from __future__ import annotations

from typing import Annotated

from s4edge.model.kinds import Kinds
from s4edge.model.systems import diagonal, feedforward
from s4edge.model.systems.base import Systems, SystemsConfig

# The first is what files have from before there were kinds.
SYSTEMS = Kinds("systems", diagonal.KIND, feedforward.KIND)
AnySystems = Annotated[SystemsConfig, SYSTEMS.tagged]


def make_systems(config: SystemsConfig, length: int | None = None) -> Systems:
    """Systems of a configuration, all numbers zero.

    Args:
        config: of a kind in `SYSTEMS`.
        length: of the sequences, where they are valid for one only.
    """
    systems: Systems = SYSTEMS.make(config, length)
    return systems
