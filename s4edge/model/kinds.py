"""Parts of a model of which there are several kinds, told apart by their configuration's tag."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from s4edge.errors import S4EdgeError
from s4edge.json_codec import Tagged


@dataclass(frozen=True)
class Kind:
    """One of them.

    Attributes:
        config: the class of its configurations, a frozen dataclass with a ``TAG``.
        make: the torch module of a configuration, all numbers yet to be filled in.
    """

    config: type[Any]
    make: Callable[..., Any]


class Kinds:
    """Those that there are.

    Args:
        what: they are kinds of, for messages.
        *kinds: that there are from the start; files that say no tag have the first.
    """

    def __init__(self, what: str, *kinds: Kind) -> None:
        self.what, self.by_tag = what, {kind.config.TAG: kind for kind in kinds}
        self.tagged = Tagged(
            lambda: {tag: kind.config for tag, kind in self.by_tag.items()}, next(iter(self.by_tag))
        )

    def register(self, kind: Kind) -> None:
        """Let models and files have a kind.

        Raises:
            S4EdgeError: another one has its tag.
        """
        tag = kind.config.TAG
        if self.by_tag.setdefault(tag, kind) != kind:
            raise S4EdgeError(f"there is another kind of {self.what} with the tag {tag!r}")

    def make(self, config: Any, *arguments: Any) -> Any:
        """The module of a configuration."""
        return self.by_tag[config.TAG].make(config, *arguments)
