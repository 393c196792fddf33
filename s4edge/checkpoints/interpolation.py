"""References inside a saved configuration, as OmegaConf writes them: ``${model.d_model}``.

A value that points elsewhere in the same file is looked up there. What points outside (environment,
resolvers of hydra) or was left open (``???``) is unknown: it becomes `UNKNOWN` and stays in its
place, so that nobody takes it for unsaid.
"""

from __future__ import annotations

import json
import re
from typing import Any

_REFERENCE = re.compile(r"\$\{([^${}]*)\}")
_DEEPEST = 32


class _Unknown:
    """A value that the file names but does not hold."""

    def __repr__(self) -> str:
        return "???"


UNKNOWN = _Unknown()


def resolve(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration whose references are looked up in itself."""
    resolved: dict[str, Any] = _resolved(config, config, (), 0)
    return resolved


def _resolved(value: Any, root: dict[str, Any], place: tuple[str, ...], depth: int) -> Any:
    """A value at a place, everything below it looked up."""
    if depth > _DEEPEST:
        return UNKNOWN
    if isinstance(value, dict):
        return {
            key: _resolved(each, root, (*place, str(key)), depth) for key, each in value.items()
        }
    if isinstance(value, list):
        return [
            _resolved(each, root, (*place, str(index)), depth) for index, each in enumerate(value)
        ]
    if not isinstance(value, str):
        return value
    if value == "???":
        return UNKNOWN
    found = _REFERENCE.search(value)
    if found is None:
        return UNKNOWN if "${" in value else value
    answer = _looked_up(found.group(1).strip(), root, place, depth)
    if found.group(0) == value:
        return answer
    if answer is UNKNOWN or isinstance(answer, dict | list):
        return UNKNOWN
    text = value[: found.start()] + str(answer) + value[found.end() :]
    return _resolved(text, root, place, depth + 1)


def _looked_up(name: str, root: dict[str, Any], place: tuple[str, ...], depth: int) -> Any:
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
    at: Any = root
    for key in path:
        if isinstance(at, list) and key.isdigit() and int(key) < len(at):
            at = at[int(key)]
        elif isinstance(at, dict) and key in at:
            at = at[key]
        else:
            return default
    answer = _resolved(at, root, tuple(path), depth + 1)
    return default if answer is UNKNOWN and colon else answer


def _plain(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
