"""Dataclasses as JSON objects and back, by the types that their fields declare.

What a field may hold beyond its type is part of the annotation: ``Annotated[int, Kind(...)]``.
Properties that a class names in ``TOLD`` are written beside its fields, and looked for as they are.
A class may name in ``OPTIONAL`` the fields that may be absent; without, those with a default may.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Annotated, Any, Literal, Union, get_args, get_origin

_ALWAYS = "told always"
_TAG = "tag"
_NONE = type(None)
# The second is what `X | Y` makes from Python 3.10 on.
_UNIONS = (Union, getattr(types, "UnionType", Union))

Where = tuple[Any, ...]  # of str and int


@dataclasses.dataclass(frozen=True)
class Kind:
    """What values of a field are, where its type does not say all.

    Attributes:
        name: in words, such as "a positive integer".
        accepts: whether a value of the type is one.
    """

    name: str
    accepts: Callable[[Any], bool]


@dataclasses.dataclass(frozen=True)
class Tagged:
    """Dataclasses of which a value may be any, told apart by their ``TAG``, in JSON under "tag".

    Attributes:
        known: gives them by their tags.
        default: the tag of objects that have none.
    """

    known: Callable[[], Mapping[str, type[Any]]]
    default: str


class MisfitError(ValueError):
    """A JSON value is not what was declared.

    Attributes:
        where: keys and places that lead to it, outermost first.
        problem: "kind"; "choice", it is none of those declared; "count", a list of another length;
            "missing" or "unknown", an object lacks a key, or has one that nothing declares.
        value: what was found; of "count" how many, of "missing" and "unknown" the key.
        wanted: the type or `Kind`; of "choice" the values, of "count" how many.
        or_null: whether null would do as well.
    """

    def __init__(
        self, where: Where, problem: str, value: object, wanted: Any = None, or_null: bool = False
    ) -> None:
        super().__init__(where, problem, value)
        self.where, self.problem, self.value = where, problem, value
        self.wanted, self.or_null = wanted, or_null

    @property
    def path(self) -> str:
        """Where, as ``results[0].memory``."""
        parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.where)
        return "".join(parts).lstrip(".")


def told_always(default: Any) -> Any:
    """A field with a default that `encode` writes also where it is brief."""
    return dataclasses.field(default=default, metadata={_ALWAYS: True})


def encode(value: Any, *, brief: bool = False, digits: int | None = None) -> Any:
    """A value as `json.dumps` takes it: dataclasses as objects, tuples as lists.

    Args:
        value: of dataclasses, mappings, lists and what JSON has.
        brief: leave out fields that are None by default.
        digits: significant digits that are kept of floats; those that are not finite become null.
    """
    inner = functools.partial(encode, brief=brief, digits=digits)
    if dataclasses.is_dataclass(value):
        tag = {_TAG: value.TAG} if hasattr(value, "TAG") else {}
        return {**tag, **{name: inner(getattr(value, name)) for name in _written(value, brief)}}
    if isinstance(value, Mapping):
        return {key: inner(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [inner(each) for each in value]
    if digits is not None and isinstance(value, float):
        return float(f"{value:.{digits}g}") if isfinite(value) else None
    return value


def _written(value: Any, brief: bool) -> Iterator[str]:
    for field in dataclasses.fields(value):
        is_default = field.default is None and getattr(value, field.name) is None
        if not (brief and is_default and _ALWAYS not in field.metadata):
            yield field.name
    yield from getattr(value, "TOLD", ())


def decode(kind: Any, value: Any, *, strict: bool = True) -> Any:
    """A JSON value as a ``kind``: what `encode` made of one.

    Args:
        kind: a dataclass, ``TypedDict``, ``Literal``, tuple, ``Sequence``, ``Mapping``,
            ``X | None``, ``int``, ``float``, ``str`` or ``bool``, in ``Annotated`` with a `Kind` or
            not.
        value: as `json.loads` gives it.
        strict: refuse keys that nothing declares; else those of dataclasses are left out, and those
            of a ``TypedDict`` kept.

    Raises:
        MisfitError: it is something else.
    """
    return _value(kind, value, (), strict)


def _value(kind: Any, value: Any, where: Where, strict: bool) -> Any:
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where, strict)
    if hasattr(kind, "__total__"):  # a TypedDict
        found = _fields(hints(kind), hints(kind), value, where, strict)
        return {**value, **found}
    if origin is Annotated:
        return _annotated(kind, value, where, strict)
    if origin is Literal:
        if value not in parts:
            raise MisfitError(where, "choice", value, parts)
        return value
    if origin in _UNIONS:
        return _union(parts, value, where, strict)
    if origin is not None and issubclass(origin, Mapping):
        found = _checked(dict, value, where)
        return {key: _value(parts[1], each, (*where, key), strict) for key, each in found.items()}
    if origin is not None and issubclass(origin, Sequence):
        return _items(origin, parts, value, where, strict)
    return _checked(kind, value, where)


def _checked(kind: Any, value: Any, where: Where) -> Any:
    """A value that has to be of that very type."""
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or (isinstance(value, float) and not isfinite(value)):
        raise MisfitError(where, "kind", value, kind)
    return value


def _annotated(kind: Any, value: Any, where: Where, strict: bool) -> Any:
    plain, told = get_args(kind)
    if isinstance(told, Tagged):
        return _tagged(told, value, where, strict)
    try:
        found = _value(plain, value, where, strict)
    except MisfitError as error:
        if error.where == where:
            error.wanted = told
        raise
    if not told.accepts(found):
        raise MisfitError(where, "kind", value, told)
    return found


def _tagged(tagged: Tagged, value: Any, where: Where, strict: bool) -> Any:
    fields, known = dict(_checked(dict, value, where)), tagged.known()
    tag = fields.pop(_TAG, tagged.default)
    if not isinstance(tag, str) or tag not in known:
        raise MisfitError(where, "choice", tag, tuple(known))
    return _value(known[tag], fields, where, strict)


def _union(parts: Sequence[Any], value: Any, where: Where, strict: bool) -> Any:
    if value is None and _NONE in parts:
        return None
    kinds = [part for part in parts if part is not _NONE]
    # Of int and float, what it is.
    try:
        return _value(type(value) if type(value) in kinds else kinds[0], value, where, strict)
    except MisfitError as error:
        error.or_null |= error.where == where and error.problem == "kind" and _NONE in parts
        raise


def _items(origin: Any, parts: Sequence[Any], value: Any, where: Where, strict: bool) -> Any:
    if not isinstance(value, (list, tuple)):
        raise MisfitError(where, "kind", value, list)
    kinds = parts if origin is tuple and parts[-1] is not Ellipsis else [parts[0]] * len(value)
    if len(kinds) != len(value):
        raise MisfitError(where, "count", len(value), len(kinds))
    found = (
        _value(kinds[place], each, (*where, place), strict) for place, each in enumerate(value)
    )
    return tuple(found) if origin is tuple else list(found)


def _dataclass(kind: Any, value: Any, where: Where, strict: bool) -> Any:
    declared = {field.name: field for field in dataclasses.fields(kind)}
    # Lists and objects that are empty by default are made by factories.
    defaults = [
        name for name, field in declared.items()
        if not (field.default is field.default_factory is dataclasses.MISSING)
    ]  # fmt: skip
    optional = getattr(kind, "OPTIONAL", defaults)
    told = {name: hints(getattr(kind, name).fget)["return"] for name in getattr(kind, "TOLD", ())}
    needed = [name for name in (*declared, *told) if name not in optional]
    kinds = {name: hints(kind)[name] for name in declared}
    found = _fields({**kinds, **told}, needed, value, where, strict)
    return kind(**{name: each for name, each in found.items() if name in declared})


def _fields(
    kinds: Mapping[str, Any], needed: Iterable[str], value: Any, where: Where, strict: bool
) -> dict[str, Any]:
    """What is declared of an object."""
    found = _checked(dict, value, where)
    for name in found:
        if strict and name not in kinds:
            raise MisfitError(where, "unknown", name)
    for name in needed:
        if name not in found:
            raise MisfitError(where, "missing", name)
    return {
        name: _value(kinds[name], each, (*where, name), strict)
        for name, each in found.items()
        if name in kinds
    }


@functools.cache
def hints(declared: Any) -> dict[str, Any]:
    """The types of what a class or function declares."""
    if sys.version_info < (3, 10):
        for each in getattr(declared, "__mro__", (declared,)):
            # Not those that a class has of the one below it.
            if not isinstance(each, type) or "__annotations__" in vars(each):
                declares = each.__annotations__
                each.__annotations__ = {name: without_bars(declares[name]) for name in declares}
    return typing.get_type_hints(declared, localns={"typing": typing}, include_extras=True)


def without_bars(annotation: Any) -> str:
    """An annotation with ``X | Y`` as ``typing.Union[X, Y]``, which older Pythons evaluate, too."""
    import ast

    class Unions(ast.NodeTransformer):
        def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
            parts = f"{ast.unparse(self.visit(node.left))}, {ast.unparse(self.visit(node.right))}"
            return ast.parse(f"typing.Union[{parts}]", mode="eval").body

    text = getattr(annotation, "__forward_arg__", annotation)
    return ast.unparse(Unions().visit(ast.parse(text, mode="eval")))
