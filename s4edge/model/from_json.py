"""JSON values as the types that dataclasses declare, checked on the way."""

from __future__ import annotations

import dataclasses
from math import isfinite
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from s4edge.errors import S4EdgeError
from s4edge.foreign import shown

_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def build(kind: Any, value: Any, where: str) -> Any:
    """A JSON value as a ``kind``.

    Args:
        kind: a dataclass, ``Literal``, tuple, ``X | None``, ``int``, ``float``, ``str`` or
            ``bool``, as annotations have them.
        value: what `json.loads` gave for it.
        where: what it is, for messages.

    Raises:
        S4EdgeError: it is of another type, a field of a dataclass is missing or unknown, or a
            literal is not among those known.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where)
    if origin in (Union, UnionType):
        if value is None and NoneType in parts:
            return None
        wanted = [part for part in parts if part is not NoneType]
        # Of int and float, what it is.
        return build(type(value) if type(value) in wanted else wanted[0], value, where)
    if origin is Literal:
        if value not in parts:
            known = ", ".join(map(str, parts))
            raise S4EdgeError(
                f"{where} {shown(value)} is unknown to this version; it knows {known}"
            )
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise S4EdgeError(f"{where} is {shown(value)}, not a list")
        kinds = [parts[0]] * len(value) if parts[-1] is Ellipsis else parts
        if len(kinds) != len(value):
            raise S4EdgeError(f"{where} has {len(value)} values, not {len(kinds)}")
        return tuple(build(each, item, where) for each, item in zip(kinds, value, strict=True))
    return _plain(kind, value, where)


def _plain(kind: type, value: Any, where: str) -> Any:
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or (isinstance(value, float) and not isfinite(value)):
        raise S4EdgeError(f"{where} is {shown(value)}, not {_NAMES[kind]}")
    return value


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise S4EdgeError(f"{where} is {shown(value)}, not an object")
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in value.keys() - fields.keys():
        raise S4EdgeError(f"{where} has an option {shown(name)} that this version does not know")
    for name, field in fields.items():
        if name not in value and field.default is dataclasses.MISSING:
            raise S4EdgeError(f"{where} lacks {name}")
    return kind(**{name: build(hints[name], each, name) for name, each in value.items()})
