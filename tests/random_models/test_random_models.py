"""Random models in the one form: run every way, saved, described."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from model_strategies import ACTIVATIONS, GATED, configurations, heads
from properties import PROPERTIES

from s4edge.json_codec import Tagged
from s4edge.model.configuration import DenseLayer, HeadConfig, ModelConfig


def fields_of(value: Any, seen: dict[str, set[Any]]) -> None:
    """Collect the values of every field of a dataclass and of those in it, by class and field."""
    if isinstance(value, tuple):
        for each in value:
            fields_of(each, seen)
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            held = getattr(value, field.name)
            seen.setdefault(f"{type(value).__name__}.{field.name}", set()).add(repr(held))
            fields_of(held, seen)


def hints_of(kind: type) -> dict[str, Any]:
    """Of a dataclass's fields."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def dataclasses_in(kind: Any) -> set[type]:
    """A dataclass and all that its fields may hold, of tagged ones all kinds."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return {kind}.union(*(dataclasses_in(hint) for hint in hints_of(kind).values()))
    if isinstance(kind, Tagged):
        return set().union(*(dataclasses_in(each) for each in kind.known().values()))
    return set().union(*(dataclasses_in(part) for part in get_args(kind)))


def literals_in(kind: Any) -> set[Any]:
    """Every literal that an annotation allows, and None where it does."""
    if get_origin(kind) is Literal:
        return set(get_args(kind))
    if get_origin(kind) in (Union, types.UnionType):
        return set().union(*(literals_in(part) for part in get_args(kind)))
    return {None} if kind is type(None) else {True, False} if kind is bool else set()


def test_every_field_is_drawn() -> None:
    seen: dict[str, set[str]] = {}

    @settings(max_examples=700, derandomize=True, database=None, deadline=None)
    @given(configurations(), heads())
    def draw(config: ModelConfig, head: HeadConfig) -> None:
        fields_of((config, head), seen)

    draw()
    for kind in dataclasses_in(ModelConfig):
        for name, hint in hints_of(kind).items():
            values = seen.get(f"{kind.__name__}.{name}", set())
            missing = {repr(each) for each in literals_in(hint)} - values
            assert not missing, f"{kind.__name__}.{name} is never {missing}: draw it"
            # Of one kind without a field there is one.
            several = len(values) > 1 or (name == "kind" and kind is DenseLayer)
            assert several, f"{kind.__name__}.{name} is always {values}: draw it"
    for name in ("activation", "final_activation"):
        missing = {repr(each) for each in (*ACTIVATIONS, *GATED)} - seen[f"BlockConfig.{name}"]
        assert not missing


@pytest.mark.parametrize("name", PROPERTIES)
def test_holds_of_random_models(name: str, pytestconfig: pytest.Config) -> None:
    each = PROPERTIES[name]
    many = 20 if pytestconfig.getoption("--slow") else 1

    @settings(
        max_examples=many * each.examples, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(each.drawn)
    def holds(drawn: Any) -> None:
        each.check(drawn)

    holds()
