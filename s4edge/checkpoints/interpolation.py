"""References inside a saved configuration, as OmegaConf writes them: ``${model.d_model}``.

A value that points elsewhere in the same file is looked up there. What points outside (environment,
resolvers of hydra) or was left open (``???``) is unknown: it becomes `UNKNOWN` and stays in its
place, so that nobody takes it for unsaid.
"""

from __future__ import annotations

import re
from typing import Any

from s4edge.foreign import parse_json

_REFERENCE = re.compile(r"\$\{([^${}]*)\}")
_DEEPEST = 32
_MOST_VALUES = 10_000
_LONGEST = 10_000


class _Unknown:
    """A value that the file names but does not hold."""

    def __repr__(self) -> str:
        return "???"


UNKNOWN = _Unknown()


def resolve(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration whose references are looked up in itself.

    References to what holds references in turn can make a small file endless: what they stand for
    after the first ten thousand values is `UNKNOWN`.
    """
    resolved: dict[str, Any] = _Resolver(config).resolved(config, (), 0)
    return resolved


class _Resolver:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._left = _MOST_VALUES

    def resolved(self, value: Any, place: tuple[str, ...], depth: int) -> Any:
        """A value at a place, everything below it looked up."""
        self._left -= depth > 0
        if depth > _DEEPEST or self._left < 0:
            return UNKNOWN
        if isinstance(value, dict):
            return {
                key: self.resolved(each, (*place, str(key)), depth) for key, each in value.items()
            }
        if isinstance(value, list):
            return [
                self.resolved(each, (*place, str(index)), depth) for index, each in enumerate(value)
            ]
        if not isinstance(value, str):
            return value
        if value == "???":
            return UNKNOWN
        found = _REFERENCE.search(value)
        if found is None:
            return UNKNOWN if "${" in value else value
        answer = self._looked_up(found.group(1).strip(), place, depth)
        if found.group(0) == value:
            return answer
        if answer is UNKNOWN or isinstance(answer, dict | list):
            return UNKNOWN
        if len(value) > _LONGEST:
            return UNKNOWN
        text = value[: found.start()] + str(answer) + value[found.end() :]
        return self.resolved(text, place, depth + 1)

    def _looked_up(self, name: str, place: tuple[str, ...], depth: int) -> Any:
        resolver, colon, arguments = name.partition(":")
        default: Any = UNKNOWN
        if colon:
            if resolver.strip() != "oc.select":
                return UNKNOWN
            name, comma, said = arguments.partition(",")
            # Selected without a default, what is not there is null.
            default = _plain(said.strip()) if comma else None
            name = name.strip()
        dots = len(name) - len(name.lstrip("."))
        if dots > len(place):
            return UNKNOWN
        # One dot is what holds the value itself, each further one is a level up.
        path = (*place[: len(place) - dots], *name[dots:].split(".")) if dots else name.split(".")
        at: Any = self._root
        for key in path:
            if isinstance(at, list) and key.isdecimal() and int(key) < len(at):
                at = at[int(key)]
            elif isinstance(at, dict) and key in at:
                at = at[key]
            else:
                return default
        answer = self.resolved(at, tuple(path), depth + 1)
        return default if answer is UNKNOWN and colon else answer


def _plain(text: str) -> Any:
    try:
        return parse_json(text, finite=False)
    except ValueError:
        return text
