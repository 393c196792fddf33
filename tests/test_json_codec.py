"""Dataclasses to JSON and back."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s4edge.json_codec import Kind, MisfitError, decode, encode, hints, told_always, without_bars

Count = Annotated[int, Kind("a count", lambda value: value >= 0)]


class Range(TypedDict):
    low: float
    high: float | None


@dataclasses.dataclass(frozen=True)
class Part:
    name: str
    sizes: tuple[int, ...] = ()
    weight: float | None = None
    seen: int | None = told_always(None)


@dataclasses.dataclass(frozen=True)
class Whole:
    TOLD = ("longest",)

    parts: Sequence[Part]
    kind: Literal["small", "large", 3]
    pair: tuple[int, float | None]
    number: int | float
    count: Count | None
    limits: Range | None = None
    by_name: Mapping[str, Part] = dataclasses.field(default_factory=dict)
    is_new: bool = False

    @property
    def longest(self) -> str | None:
        return max((part.name for part in self.parts), key=len, default=None)


floats = st.floats(allow_nan=False, allow_infinity=False)
parts = st.builds(
    Part, st.text(), st.lists(st.integers()).map(tuple), st.none() | floats,
    st.none() | st.integers(),
)  # fmt: skip
wholes = st.builds(
    Whole, st.lists(parts), st.sampled_from(["small", "large", 3]),
    st.tuples(st.integers(), st.none() | floats), st.integers() | floats,
    st.none() | st.integers(0), st.none() | st.fixed_dictionaries({"low": floats, "high": floats}),
    st.dictionaries(st.text(), parts), st.booleans(),
)  # fmt: skip


@given(wholes, st.booleans())
def test_what_is_written_is_read(whole: Whole, brief: bool) -> None:
    text = json.dumps(encode(whole, brief=brief))
    found = decode(Whole, json.loads(text))
    assert found == whole
    assert type(found.number) is type(whole.number)


def test_all_fields_are_written_in_order_then_what_is_told() -> None:
    whole = Whole([Part("a", (1, 2))], "small", (1, None), 2, None)
    assert json.dumps(encode(whole)) == (
        '{"parts": [{"name": "a", "sizes": [1, 2], "weight": null, "seen": null}], '
        '"kind": "small", "pair": [1, null], "number": 2, "count": null, "limits": null, '
        '"by_name": {}, "is_new": false, "longest": "a"}'
    )
    assert encode(whole, brief=True)["parts"] == [{"name": "a", "sizes": [1, 2], "seen": None}]
    # What has no default is told in any case.
    assert encode(whole, brief=True)["count"] is None


def test_digits() -> None:
    found = encode({"a": (1 / 3, float("nan"), 7, True), "b": "x"}, digits=3)
    assert found == {"a": [0.333, None, 7, True], "b": "x"}


GOOD: dict[str, Any] = {
    "parts": [{"name": "a"}], "kind": "large", "pair": [1, 2], "number": 1.5, "count": 3,
    "longest": "a", "limits": {"low": 1, "high": None},
}  # fmt: skip


def test_numbers_are_what_was_declared() -> None:
    found = decode(Whole, GOOD)
    assert (found.pair, type(found.pair[1])) == ((1, 2.0), float)
    assert found.limits == {"low": 1.0, "high": None}
    assert found.parts[0].sizes == ()


@pytest.mark.parametrize(
    ("changes", "path", "problem", "value", "wanted", "or_null"),
    [
        ({"kind": "medium"}, "kind", "choice", "medium", ("small", "large", 3), False),
        ({"pair": [1]}, "pair", "count", 1, 2, False),
        ({"pair": "12"}, "pair", "kind", "12", list, False),
        ({"pair": [1, "2"]}, "pair[1]", "kind", "2", float, True),
        ({"number": "1"}, "number", "kind", "1", int, False),
        ({"number": True}, "number", "kind", True, int, False),
        ({"count": -1}, "count", "kind", -1, Kind, True),
        ({"count": "1"}, "count", "kind", "1", Kind, True),
        ({"count": 1.0}, "count", "kind", 1.0, Kind, True),
        ({"parts": [{"name": "a"}, {"name": None}]}, "parts[1].name", "kind", None, str, False),
        ({"parts": [{"sizes": [1]}]}, "parts[0]", "missing", "name", None, False),
        ({"parts": [[]]}, "parts[0]", "kind", [], dict, False),
        ({"limits": {"low": 1}}, "limits", "missing", "high", None, False),
        ({"limits": {"low": float("inf"), "high": 1}}, "limits.low", "kind", float("inf"), float,
         False),
        ({"limits": 3}, "limits", "kind", 3, dict, True),
        ({"by_name": {"b": {"name": "b", "size": 1}}}, "by_name.b", "unknown", "size", None, False),
        ({"is_new": 0}, "is_new", "kind", 0, bool, False),
        ({"longest": 3}, "longest", "kind", 3, str, True),
        ({"longest": ...}, "", "missing", "longest", None, False),
    ],
)  # fmt: skip
def test_what_does_not_fit(
    changes: dict[str, Any], path: str, problem: str, value: object, wanted: Any, or_null: bool
) -> None:
    told = {key: each for key, each in {**GOOD, **changes}.items() if each is not ...}
    with pytest.raises(MisfitError) as caught:
        decode(Whole, told)
    found = caught.value
    assert (found.path, found.problem, found.value) == (path, problem, value)
    assert found.wanted == wanted or isinstance(found.wanted, wanted)
    assert found.or_null == or_null


def test_what_is_unknown_may_be_left_out() -> None:
    later = {**GOOD, "new": 1, "limits": {"low": 1, "high": 2, "mean": "x"}}
    with pytest.raises(MisfitError):
        decode(Whole, later)
    found = decode(Whole, later, strict=False)
    assert dataclasses.replace(found, limits=None) == decode(Whole, {**GOOD, "limits": None})
    # Of an object that is no dataclass it is kept.
    assert found.limits == {"low": 1.0, "high": 2.0, "mean": "x"}


@dataclasses.dataclass(frozen=True)
class Told:
    OPTIONAL = ("later",)

    first: int = 0
    later: int = 0


def test_what_has_a_default_may_have_to_be_there() -> None:
    assert decode(Told, {"first": 1}) == Told(1)
    with pytest.raises(MisfitError) as caught:
        decode(Told, {"later": 1})
    assert (caught.value.problem, caught.value.value) == ("missing", "first")


@pytest.mark.parametrize("declared", [Part, Whole, Range, Whole.longest.fget])
def test_annotations_for_older_pythons_mean_the_same(declared: Any) -> None:
    names = {**globals(), "typing": typing}
    for name, annotation in declared.__annotations__.items():
        older = without_bars(annotation)
        assert "|" not in older
        assert eval(older, names) == hints(declared)[name]
