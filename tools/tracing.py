"""Which tests run a line: the tests once under coverage, every line with who ran it.

`tools/mutation.py` asks it which tests could notice a fault. Needs coverage.
What a fixture of a module or a session runs counts for every test that asks for the fixture.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest


@dataclass
class Trace:
    """What tests ran.

    Attributes:
        seconds: of each test, with its fixtures.
        failed: tests that fail without any fault.
        users: for every test or wide fixture, the tests that depend on it.
        runs: for every module below the package, tests and fixtures by line.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    users: dict[str, list[str]] = field(default_factory=dict)
    runs: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def add(self, other: Trace) -> None:
        """Take in what other tests ran."""
        self.seconds |= other.seconds
        self.failed += other.failed
        for name, tests in other.users.items():
            self.users[name] = [*self.users.get(name, ()), *tests]
        for module, lines in other.runs.items():
            mine = self.runs.setdefault(module, {})
            for line, names in lines.items():
                mine[line] = [*mine.get(line, ()), *names]

    def tests_of(self, module: str, source: str, line: int) -> set[str]:
        """Tests that run a line: its statement, or else its function, or else its module."""
        found: set[str] = set()
        for first, last in _wider(ast.parse(source), line):
            found = {
                test
                for number in range(first, last + 1)
                for name in self.runs.get(module, {}).get(str(number), ())
                for test in self.users.get(name, ())
            }
            if found:
                break
        return found - set(self.failed)


def _wider(tree: ast.Module, line: int) -> Iterator[tuple[int, int]]:
    """The statement with a line (its head if it has a body), its function's body, the module."""
    inside = [
        node for node in ast.walk(tree)
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno)
    ]  # fmt: skip
    inside.sort(key=lambda node: (node.end_lineno or 0) - node.lineno)
    functions = [node for node in inside if isinstance(node, _FUNCTION) and _in_body(node, line)]
    if functions:
        body = getattr(inside[0], "body", None)
        yield inside[0].lineno, body[0].lineno - 1 if body else inside[0].end_lineno or line
        yield functions[0].body[0].lineno, functions[0].end_lineno or line
    everything = [node for node in ast.walk(tree) if isinstance(node, _FUNCTION)]
    if everything:
        # What stands in a module's own body is run by whoever imports it first: all may notice.
        yield 1, everything[-1].end_lineno or line


_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def _in_body(node: ast.FunctionDef | ast.AsyncFunctionDef, line: int) -> bool:
    return node.body[0].lineno <= line <= (node.end_lineno or 0)


class _Watch:
    """A plugin of pytest that tells coverage who is running."""

    def __init__(self, switch: Callable[[str], None], trace: Trace) -> None:
        self.switch, self.trace = switch, trace
        self.running = [""]

    def _as(self, name: str) -> Iterator[None]:
        self.running.append(name)
        self.switch(name)
        try:
            return (yield)
        finally:
            self.running.pop()
            self.switch(self.running[-1])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        users = self.trace.users
        users[item.nodeid] = [item.nodeid]
        for definitions in item._fixtureinfo.name2fixturedefs.values():  # type: ignore[attr-defined]
            for each in definitions:
                if each.scope != "function":
                    users.setdefault(_fixture(each), []).append(item.nodeid)
        return (yield from self._as(item.nodeid))

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: object) -> Iterator[None]:
        wide = fixturedef.scope != "function"  # type: ignore[attr-defined]
        return (yield from self._as(_fixture(fixturedef) if wide else self.running[-1]))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        before = self.trace.seconds.get(report.nodeid, 0.0)
        self.trace.seconds[report.nodeid] = round(before + report.duration, 3)
        if report.failed:
            self.trace.failed.append(report.nodeid)


def _fixture(definition: object) -> str:
    return f"{definition.baseid} {definition.argname}"  # type: ignore[attr-defined]


def trace_here(package: Path, options: list[str], into: Path) -> None:
    """Run tests in this process under coverage and write who ran each line of a package."""
    import coverage

    trace = Trace()
    cover = coverage.Coverage(data_file=None, source=[str(package)], config_file=False)
    cover.start()
    pytest.main(options, plugins=[_Watch(cover.switch_context, trace)])
    cover.stop()
    data = cover.get_data()
    for name in data.measured_files():
        lines = data.contexts_by_lineno(name)
        module = Path(name).relative_to(package).as_posix()
        trace.runs[module] = {str(line): [n for n in names if n] for line, names in lines.items()}
    into.write_text(json.dumps(asdict(trace)), encoding="utf-8")


def trace_tests(
    trees: list[Path], files: list[str], run: Callable[[Path, Callable[[], None]], None]
) -> Trace:
    """Run test files in copies of the tree, some in each at a time.

    Args:
        trees: the copies.
        files: below each copy.
        run: runs a function in a process of its own, prepared as for tests in that copy.
    """

    def part(index: int) -> Trace:
        tree, into = trees[index], trees[index] / "trace.json"
        mine = files[index :: len(trees)]
        run(tree, lambda: trace_here(tree / "s4edge", [*OPTIONS, *mine], into))
        return Trace(**json.loads(into.read_text(encoding="utf-8")))

    whole = Trace()
    with ThreadPoolExecutor(len(trees)) as pool:
        for each in pool.map(part, range(len(trees))):
            whole.add(each)
    return whole


OPTIONS = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist"]


def load(path: Path) -> Trace:
    """A trace written before."""
    return Trace(**json.loads(path.read_text(encoding="utf-8")))


def save(trace: Trace, path: Path) -> None:
    """Keep a trace for the next time."""
    path.write_text(json.dumps(asdict(trace)), encoding="utf-8")


def environment(tree: Path, shared: Path) -> None:
    """Make this process one that runs the tests of a copy of the tree, silently."""
    import sys

    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    os.environ["PYTHONPATH"] = str(tree)
    os.environ.setdefault("S4EDGE_SHARED", str(shared))
