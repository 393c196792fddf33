"""Changes to JSON: values, keys, nesting; the text itself at times."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from functools import lru_cache
from random import Random
from typing import Any

from . import raw

_TEXTS = (
    "", " ", "\0", "a\nb", "\ud800", "é€😀", "x" * 3000, "[bold", "[/]", "</script>", "<b>", "%s%n",
    "{0}", "../../etc/passwd", "nan", "null", "true", "1e999", "-1", "none", "glu", "diag", "a.b.c",
    "|", "`", "${a}", "${model.d_model}${.d_model}", "${oc.select:a,[[[}", "???", "s4d", "softmax",
)  # fmt: skip
_TOKENS = (
    "NaN", "Infinity", "-Infinity", "1e999", "-0", "1E-400", "9" * 5000, '"\\ud800"', "[" * 3000,
    '{"a":' * 3000, "true", "[]", "{}", '"\\u0000"', "1.0", "-1", "\ufeff",
)  # fmt: skip


def value(random: Random, depth: int = 0) -> Any:
    """Any JSON value, awkward ones before others."""
    kind = random.randrange(12 if depth < 3 else 8)
    if kind < 3:
        return raw.number(random)
    if kind == 3:
        return random.choice(
            (0.0, -0.0, 0.5, -1.5, 1e-320, 1e308, -1e308, 1e-9, 2.0**63, 1e16 + 0.5)
        )
    if kind == 4:
        return random.choice((None, True, False))
    if kind < 8:
        return random.choice(_TEXTS)
    if kind < 10:
        return [value(random, depth + 1) for _ in range(random.choice((0, 1, 2, 5)))]
    return {
        random.choice(_TEXTS): value(random, depth + 1) for _ in range(random.choice((0, 1, 3)))
    }


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every container with each of its keys."""
    found, waiting = [], [tree]
    while waiting:
        node = waiting.pop()
        for key in node if isinstance(node, dict) else range(len(node)):
            found.append((node, key))
            if isinstance(node[key], (dict, list)):
                waiting.append(node[key])
    return found


def change(random: Random, tree: Any) -> Any:
    """A copy with some values, keys or parts changed."""
    tree = copy.deepcopy(tree)
    for _ in range(random.choice((1, 1, 1, 2, 3, 5))):
        if not isinstance(tree, (dict, list)) or not (places := _places(tree)):
            return value(random)
        node, key = random.choice(places)
        do = random.randrange(9)
        if do < 4:
            node[key] = value(random)
        elif do == 4:
            other, where = random.choice(places)
            if not (isinstance(other[where], (dict, list)) and len(str(other[where])) > 100_000):
                node[key] = copy.deepcopy(other[where])
        elif do == 5:
            del node[key]
            return change(random, tree) if random.random() < 0.5 else tree
        elif do == 6 and isinstance(node[key], (int, float)):
            node[key] = node[key] * random.choice((-1, 0, 0.5, 2, 1000)) + random.choice((-1, 0, 1))
        elif do == 7 and isinstance(node, list):
            node[key:key] = [node[key]] * random.choice((1, 2, 1000))
        elif do == 8 and isinstance(node, dict):
            node[random.choice(_TEXTS)] = node.pop(key)
            return tree
    return tree


@lru_cache(maxsize=200)
def _parsed(text: str) -> Any:
    return json.loads(text)


def text(random: Random, data: str) -> str:
    """JSON text changed as a tree or, at times, as text."""
    if random.random() < 0.75:
        return json.dumps(change(random, _parsed(data)), allow_nan=True)
    if random.random() < 0.5:
        place = random.randrange(len(data) + 1)
        return data[:place] + random.choice(_TOKENS) + data[place + random.choice((0, 1, 5)) :]
    changed = raw.mutate(random, data.encode("utf-8", "replace"))
    return changed.decode("utf-8", "replace")


def mutate(random: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """A JSON file changed; at times in what is no JSON or no UTF-8."""
    if random.random() < 0.1:
        return raw.mutate(random, data, others)
    return text(random, data.decode()).encode("utf-8", random.choice(("replace", "surrogatepass")))
