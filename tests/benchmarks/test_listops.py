"""The generator of ListOps against expressions worked out by hand, and Python's own eval."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "paper"))

from listops import CLOSE, OPERATORS, PADDING, TOKENS, Shape, evaluate, examples

WORDS = {f"[{name}": 10 + index for index, name in enumerate(OPERATORS)} | {"]": CLOSE}


def tokens(text: str) -> list[int]:
    return [WORDS.get(word, int(word) if word.isdigit() else -1) for word in text.split()]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("[MAX 2 9 4 ]", 9),
        ("[MIN 2 9 4 ]", 2),
        ("[MED 2 9 4 ]", 4),
        ("[MED 1 4 ]", 2),  # 2.5, rounded down
        ("[SM 8 7 6 ]", 1),
        ("[SM [MAX 1 [MIN 5 8 ] 3 ] 9 [MED 0 7 9 ] ]", 1),
    ],
)
def test_expressions_by_hand(text: str, value: int) -> None:
    assert evaluate(tokens(text)) == value


def test_unfinished() -> None:
    with pytest.raises(ValueError, match="does not end"):
        evaluate(tokens("[MAX 1 2"))


def by_python(expression: list[int]) -> int:
    """The same expression as Python source."""
    names = {10 + i: f"{name.lower()}([" for i, name in enumerate(OPERATORS)} | {CLOSE: "]),"}
    source = "".join(names.get(token, f"{token},") for token in expression)
    functions = {
        "max": max, "min": min, "med": lambda v: int(sorted(v)[len(v) // 2])
        if len(v) % 2 else (sorted(v)[len(v) // 2 - 1] + sorted(v)[len(v) // 2]) // 2,
        "sm": lambda v: sum(v) % 10,
    }  # fmt: skip
    return int(eval(source, functions)[0])


def test_examples() -> None:
    shape = Shape(depth=4, least=5, most=40)
    x, y, lengths = examples(200, 3, shape)
    assert np.array_equal(np.bincount(y), np.full(10, 20))
    assert (lengths >= 5).all()
    assert (lengths <= 40).all()
    assert x.max() == PADDING < TOKENS
    for row, answer, length in zip(x, y, lengths, strict=True):
        assert (row[length:] == PADDING).all()
        assert by_python(row[:length].tolist()) == answer
    again, _, _ = examples(200, 3, shape)
    assert np.array_equal(x, again)
