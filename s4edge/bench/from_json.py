"""The answer of a benchmark as the objects that it was written from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from s4edge.bench.intervals import Ratio
from s4edge.bench.results import (
    BenchResult,
    ColdStart,
    Conditions,
    Deadline,
    GraphResult,
    Histogram,
    Memory,
    Round,
    Turn,
)

Kind = TypeVar("Kind")


def result_of(answer: Mapping[str, Any]) -> BenchResult:
    """Give back what `BenchResult.to_json` was called on, but for digits that it cut.

    Args:
        answer: as `s4edge.bench.file.parse_bench` gives it; keys that this s4edge does
            not know are left out.
    """
    parts: dict[str, Callable[[Any], Any]] = {
        "results": lambda rows: [_graph_result(row) for row in rows],
        "conditions": lambda found: _made(Conditions, found),
        "timeline": lambda turns: [_made(Turn, turn) for turn in turns],
    }
    return _made(BenchResult, answer, parts)


def _graph_result(row: Mapping[str, Any]) -> GraphResult:
    parts: dict[str, Callable[[Any], Any]] = {
        "histogram": lambda found: _made(Histogram, found),
        "rounds": lambda found: [_made(Round, each) for each in found],
        "ratio": lambda found: _made(Ratio, found),
        "deadline": lambda found: _made(Deadline, found),
        "cold_start": lambda found: _made(ColdStart, found),
        "memory": lambda found: _made(Memory, found),
    }
    return _made(GraphResult, row, parts)


def _made(
    kind: Callable[..., Kind],
    found: Mapping[str, Any],
    parts: Mapping[str, Callable[[Any], Any]] | None = None,
) -> Kind:
    """An object of the keys that it has; ``parts`` make objects of those that are some."""
    parts = parts or {}
    return kind(
        **{
            field.name: parts[field.name](found[field.name])
            if field.name in parts and found[field.name] is not None
            else found[field.name]
            for field in dataclasses.fields(kind)  # type: ignore[arg-type]
            if field.name in found
        }
    )
