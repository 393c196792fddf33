"""The kinds of systems that there are, by their tags."""

from __future__ import annotations

from typing import Annotated

from s4edge.errors import S4EdgeError
from s4edge.json_codec import Tagged
from s4edge.model.systems import diagonal, feedforward
from s4edge.model.systems.base import Systems, SystemsConfig, SystemsKind

KINDS: dict[str, SystemsKind] = {}


def register(kind: SystemsKind) -> None:
    """Let models and files have systems of a kind.

    Raises:
        S4EdgeError: another kind has its tag.
    """
    tag = kind.config.TAG
    if KINDS.setdefault(tag, kind) != kind:
        raise S4EdgeError(f"there is another kind of systems with the tag {tag!r}")


def make(config: SystemsConfig, length: int | None = None) -> Systems:
    """Systems of a configuration, all numbers zero.

    Args:
        config: of a kind in `KINDS`.
        length: of the sequences, where they are valid for one only.
    """
    return KINDS[config.TAG].make(config, length)


for _each in (diagonal.KIND, feedforward.KIND):
    register(_each)

# Files from before there were kinds have diagonal systems.
AnySystems = Annotated[
    SystemsConfig,
    Tagged(
        lambda: {tag: kind.config for tag, kind in KINDS.items()}, default=diagonal.KIND.config.TAG
    ),
]
