"""ListOps: nested lists of operators on digits, to be evaluated to a digit.

An expression is a digit or ``[OP a b c ...]`` with OP one of MAX, MIN, MED (median, rounded down)
and SM (sum modulo 10), read token by token; an operator and its opening bracket are one token.
Written from the published definition: N. Nangia and S. Bowman, "ListOps: a diagnostic dataset for
latent tree learning" (2018); as a task for long sequences, Y. Tay et al., "Long Range Arena"
(2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OPERATORS = ("MAX", "MIN", "MED", "SM")
# 0 to 9 are the digits; padding follows the operators and the closing bracket.
CLOSE = 10 + len(OPERATORS)
PADDING = CLOSE + 1
TOKENS = PADDING + 1


@dataclass(frozen=True)
class Shape:
    """How large expressions are.

    Attributes:
        depth: of nesting, at most.
        arguments: of a list, at most.
        least: tokens.
        most: tokens.
    """

    depth: int = 6
    arguments: int = 5
    least: int = 10
    most: int = 64


def evaluate(tokens: list[int]) -> int:
    """The digit that an expression stands for.

    Raises:
        ValueError: it is none.
    """
    open_lists: list[tuple[int, list[int]]] = []
    for at, token in enumerate(tokens):
        if token == CLOSE:
            operator, values = open_lists.pop()
            value = apply(operator, values)
        elif token >= 10:
            open_lists.append((token, []))
            continue
        else:
            value = token
        if open_lists:
            open_lists[-1][1].append(value)
        elif at == len(tokens) - 1:
            return value
    raise ValueError("the expression does not end")


def apply(operator: int, values: list[int]) -> int:
    """An operator's token on digits."""
    name = OPERATORS[operator - 10]
    if name == "SM":
        return sum(values) % 10
    if name == "MED":
        return int(np.median(values))
    return max(values) if name == "MAX" else min(values)


def expression(rng: np.random.Generator, shape: Shape, depth: int = 1) -> list[int]:
    """At random: a list at the top, below it lists ever more seldom."""
    if depth > 1 and (depth > shape.depth or rng.random() < 0.75):
        return [int(rng.integers(10))]
    tokens = [10 + int(rng.integers(len(OPERATORS)))]
    for _ in range(int(rng.integers(2, shape.arguments + 1))):
        tokens += expression(rng, shape, depth + 1)
    return [*tokens, CLOSE]


def examples(
    count: int,
    seed: int,
    shape: Shape = Shape(),
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """``x`` (count, most) tokens, ``y`` (count,) digits, ``lengths`` (count,).

    Answers are as many of each digit: MAX and MIN would make most of them 9 and 0.
    """
    rng = np.random.default_rng(seed)
    x = np.full((count, shape.most), PADDING, np.int64)
    y, lengths = np.zeros(count, np.int64), np.zeros(count, np.int64)
    found = 0
    while found < count:
        tokens = expression(rng, shape)
        if shape.least <= len(tokens) <= shape.most and evaluate(tokens) == found % 10:
            x[found, : len(tokens)] = tokens
            y[found], lengths[found] = found % 10, len(tokens)
            found += 1
    order = rng.permutation(count)
    return x[order], y[order], lengths[order]
