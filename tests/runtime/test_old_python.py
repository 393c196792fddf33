"""What a board calls runs on Python 3.9: nothing in it that came later.

The interpreter that runs the tests is newer, so the source is looked at.
`tools/base_install.py` runs it on the old one itself.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import s4edge

PACKAGE = Path(s4edge.__path__[0])
BASE = sorted(
    path.relative_to(PACKAGE).as_posix()
    for pattern in (
        "*.py",
        "bench/**/*.py",
        "cli/*.py",
        "data/*.py",
        "export/c/packages/kinds.py",
        "reports/__init__.py",
        "reports/bench/*.py",
        "reports/live_line.py",
        "reports/frame.py",
        "reports/numbers.py",
        "reports/palette.py",
        "runtime/**/*.py",
    )
    for path in PACKAGE.glob(pattern)
    if path.name != "api.py"  # the toolchain's, which a board never imports
)


def newer(source: str) -> list[str]:
    """What of Python 3.10 and later a module uses, with line numbers."""
    found = []
    # Refuses syntax that is newer, such as match.
    for node in ast.walk(ast.parse(source, feature_version=(3, 9))):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            name = node.func.attr if isinstance(node.func, ast.Attribute) else name
            keywords = {keyword.arg for keyword in node.keywords}
            if name in ("zip", "dataclass") and keywords & {"strict", "slots", "kw_only"}:
                found.append(f"{node.lineno}: {name}(...) with {sorted(map(str, keywords))}")
            if name in ("isinstance", "issubclass") and isinstance(node.args[1], ast.BinOp):
                found.append(f"{node.lineno}: {name}(..., A | B)")
        # An alias is evaluated, unlike an annotation.
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp):
            parts = (node.value.left, node.value.right)
            if isinstance(node.value.op, ast.BitOr) and any(
                isinstance(part, ast.Subscript) or getattr(part, "value", 0) is None
                for part in parts
            ):
                found.append(f"{node.lineno}: an alias A | B")
        if isinstance(node, ast.ImportFrom) and node.module == "typing":
            late = {"TypeAlias", "ParamSpec", "Self", "assert_never", "TypeGuard", "override"}
            found += [f"{node.lineno}: typing.{a.name}" for a in node.names if a.name in late]
    return found


def test_the_base_is_found() -> None:
    assert {"__init__.py", "cli/bench.py", "runtime/stream.py", "data/dataset.py"} <= set(BASE)


@pytest.mark.parametrize("module", BASE)
def test_nothing_newer_than_3_9(module: str) -> None:
    source = (PACKAGE / module).read_text(encoding="utf-8")
    assert newer(source) == []
    # Without it an annotation such as `int | None` is evaluated.
    assert "|" not in source or "from __future__ import annotations" in source


@pytest.mark.parametrize(
    "source",
    [
        "zip(a, b, strict=True)",
        "isinstance(x, int | str)",
        "@dataclasses.dataclass(frozen=True, slots=True)\nclass A: pass",
        "Alias = dict[str, int] | None",
        "from typing import TypeAlias",
    ],
)
def test_what_is_newer_is_seen(source: str) -> None:
    assert newer(source)


def test_newer_syntax_is_refused() -> None:
    with pytest.raises(SyntaxError):
        newer("match x:\n    case 1: pass\n")
