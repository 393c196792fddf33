"""How many small faults the tests notice: random mutants, each under the tests that run its line.

    python tools/mutation.py [--count 200] [--seed 0] [--processes 2] [--trace T.json] [-o R.json]
    python tools/mutation.py --again R.json [--tests FILES] [-o R.json]   # the survivors alone

Needs cosmic-ray, whose operators make the mutants, and coverage, which tells what a test runs
(`pip install cosmic-ray coverage`). The tests run once without a fault, or the trace of an earlier
time says what they ran. Each mutant is tried in a copy of the tree, by a process forked from one
that has imported the libraries already, under the tests that run its line: its namesake's first,
then the room's own, then the quick ones, up to `--budget` seconds of them; where no test of this
process runs it, under the room's tests, which start processes, too. A mutant is noticed when a test
fails, or does not end in time. Results are written after each; what survives is printed with its
line; whether it changes anything is for people to say.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import json
import os
import random
import shutil
import signal
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tracing import OPTIONS, Trace, environment, load, save, trace_tests

ROOT = Path(__file__).resolve().parents[1]
# The rooms whose modules are changed, and the tests that look at each, the nearest first.
TESTS = {
    "systems": ("systems", "compression"),
    "compression": ("compression", "workflows", "cli/test_calibrate.py", "cli/test_sweep.py"),
    "export": ("export", "random_models", "cli/test_three_calls.py"),
    "checkpoints": ("checkpoints", "workflows", "cli/test_bad_tensors.py", "fuzz/test_found.py"),
    "training": ("training", "cli/test_finetune_command.py"),
    "runtime": ("runtime", "cli/test_run.py", "fuzz/test_found.py", "export/onnx", "random_models"),
    "model": ("model", "random_models", "checkpoints/test_sequence_backbone.py", "compression"),
}
# What measures time, builds wheels or mutates files itself says nothing about a line.
LEFT_OUT = ("bench", "tools", "benchmarks", "fuzz/test_fuzzer.py", "cli/test_bench_command.py")
# Exchanges that a person might make by mistake; of bit operators none, which are mostly types here.
OPERATORS = (
    *(f"ReplaceBinaryOperator_{pair}" for pair in (
        "Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Mul_Add", "Add_Mul", "FloorDiv_Div", "Mod_Mul",
        "Pow_Mul",
    )),
    *(f"ReplaceComparisonOperator_{pair}" for pair in (
        "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Eq_NotEq", "NotEq_Eq", "Lt_Gt", "Gt_Lt", "LtE_GtE",
        "GtE_LtE", "Is_IsNot", "IsNot_Is",
    )),
    "ReplaceUnaryOperator_USub_UAdd", "ReplaceUnaryOperator_Delete_Not",
    "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd",
    "AddNot", "NumberReplacer", "ZeroIterationForLoop", "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
)  # fmt: skip
IMPORTED = (
    "numpy", "scipy.linalg", "torch", "onnx", "onnxruntime", "hypothesis", "safetensors.torch",
    "matplotlib.figure", "rich.table", "click.testing", "pytest",
)  # fmt: skip


@dataclass
class Mutant:
    """One small fault.

    Attributes:
        module: its file below ``s4edge``.
        operator: cosmic-ray's name of it.
        occurrence: which place of the module.
        outcome: "noticed", "timed out", "survived", "gone" where a later commit has not its line,
            or "" before it was tried.
        change: the line before and after.
        by: the test that noticed.
        tests: that run the line, of those that were run.
        seconds: of the tests.
    """

    module: str
    operator: str
    occurrence: int
    outcome: str = ""
    change: str = ""
    by: str = ""
    tests: int = 0
    seconds: float = 0.0


def draw(count: int, seed: int) -> list[Mutant]:
    """Mutants of modules drawn by their size."""
    from cosmic_ray.ast import get_ast
    from cosmic_ray.plugins import get_operator

    places: list[Mutant] = []
    for room in TESTS:
        for path in sorted((ROOT / "s4edge" / room).rglob("*.py")):
            name = path.relative_to(ROOT / "s4edge").as_posix()
            nodes = list(_walk(get_ast(path.read_text(encoding="utf-8"))))
            for kind in OPERATORS:
                operator = get_operator(f"core/{kind}")()
                found = sum(len(list(operator.mutation_positions(node))) for node in nodes)
                places += [Mutant(name, kind, index) for index in range(found)]
    random.Random(seed).shuffle(places)
    return places[:count]


def _walk(node):  # type: ignore[no-untyped-def]
    yield node
    for child in getattr(node, "children", ()):
        yield from _walk(child)


def traced_files() -> list[str]:
    """Test files that are run for the trace, those of a folder far from each other."""
    root = ROOT / "tests"
    left_out = tuple(f"{root / name}" for name in LEFT_OUT)
    files = [path for path in root.rglob("test_*.py") if not str(path).startswith(left_out)]
    return [path.relative_to(ROOT).as_posix() for path in sorted(files)]


def nearest(module: str) -> list[str]:
    """Files and folders below ``tests`` for a module, its namesake first."""
    room = module.split("/")[0]
    named = f"test_{Path(module).stem}.py"
    first = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "tests").rglob(named))]
    return list(dict.fromkeys([*first, *(f"tests/{name}" for name in TESTS[room])]))


def choose(near: list[str], tests: set[str], trace: Trace, budget: float) -> list[str]:
    """Some of the tests that run a line, those first that will likely notice."""

    def rank(test: str) -> tuple[int, float]:
        file = test.split("::")[0]
        places = [index for index, place in enumerate(near) if file.startswith(place)]
        return (min(places, default=len(near)), trace.seconds.get(test, 0.0))

    chosen: list[str] = []
    for test in sorted(tests, key=rank):
        budget -= trace.seconds.get(test, 0.0)
        if budget < 0 and chosen:
            continue
        chosen.append(test)
    return chosen


def try_mutant(
    mutant: Mutant, tree: Path, limit: float, budget: float, trace: Trace, files: Sequence[str]
) -> Mutant:
    """Change one file of a copy of the tree, run tests there, and change it back.

    Args:
        mutant: to try.
        tree: the copy.
        limit: seconds after which they do not end.
        budget: of tests that run the line, in seconds.
        trace: which these are.
        files: of tests; those near the module are run alone.
    """
    path = tree / "s4edge" / mutant.module
    before = path.read_text(encoding="utf-8")
    after, mutant.change = _changed(mutant, before)
    line = int(mutant.change.split("-")[1].split(" ")[0].split(",")[0])
    near, tests = nearest(mutant.module), []
    if files:
        near = [each for place in near for each in files if each.startswith(place)]
    else:
        tests = choose(near, trace.tests_of(mutant.module, before, line), trace, budget)
    mutant.tests = len(tests)
    started = time.perf_counter()
    path.write_text(after, encoding="utf-8")
    try:
        chosen = list(dict.fromkeys([test.split("::")[0] for test in tests] or near))
        mutant.outcome, mutant.by = (
            _outcome(tree, chosen, limit, only=tests, without=trace.failed)
            if chosen
            else ("survived", "")
        )
    finally:
        path.write_text(before, encoding="utf-8")
    mutant.seconds = round(time.perf_counter() - started, 1)
    return mutant


def _changed(mutant: Mutant, before: str) -> tuple[str, str]:
    """The module with the fault, and its lines before and after."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    operator = get_operator(f"core/{mutant.operator}")()
    after = mutate_code(before, operator, mutant.occurrence)
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return after, "\n".join(list(lines)[2:])


def find_again(mutant: Mutant) -> bool:
    """Where a mutant of another commit is in this one, by its lines; whether it is there."""
    package = ROOT / "s4edge"
    _, line, wanted = mutant.change.splitlines()
    for path in (package / mutant.module, *sorted(package.rglob("*.py"))):
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if line[1:] not in before.splitlines():
            continue
        module = path.relative_to(package).as_posix()
        with contextlib.suppress(Exception):  # past the last occurrence
            for occurrence in range(10_000):
                change = _changed(replace(mutant, occurrence=occurrence), before)[1]
                if change.splitlines()[1:] == [line, wanted]:
                    mutant.module, mutant.occurrence, mutant.change = module, occurrence, change
                    return True
    return False


def _outcome(
    tree: Path,
    files: list[str],
    limit: float,
    *,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
) -> tuple[str, str]:
    """What tests say, and which of them, in a process of its own, in ``limit`` seconds at most."""
    says = tree / "failed.txt"
    says.write_text("", encoding="utf-8")

    def run() -> int:
        import hypothesis
        import pytest

        # Each time the same examples, whatever failed before; how small they could be nobody asks.
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile(
            "mutation", phases=phases, derandomize=True, database=None, deadline=None
        )
        hypothesis.settings.load_profile("mutation")
        chosen = _Chosen(set(only), set(without), says)
        return int(pytest.main(["-x", *OPTIONS, *files], plugins=[chosen]))

    status = _fork(tree, run, limit)
    if status is None:
        return "timed out", ""
    nothing = os.waitstatus_to_exitcode(status) == 5  # no test is left of those chosen
    if status == 0 or nothing:
        return "survived", ""
    return "noticed", says.read_text(encoding="utf-8")


class _Chosen:
    """A plugin of pytest that runs chosen tests and writes which one fails."""

    def __init__(self, only: set[str], without: set[str], says: Path) -> None:
        self.only, self.without, self.says = only, without, says

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.says.write_text(report.nodeid, encoding="utf-8")

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [
            item
            for item in items
            if (not self.only or item.nodeid in self.only) and item.nodeid not in self.without
        ]


def _fork(tree: Path, run: Callable[[], object], limit: float) -> int | None:
    """The status of a forked process, None if it was ended at the limit."""
    child = os.fork()
    if child == 0:
        os.setsid()
        environment(tree, ROOT.parent / "shared")
        try:
            os._exit(int(run() or 0))
        except BaseException:
            os._exit(1)
    until = time.monotonic() + limit
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def copies(count: int, folder: Path) -> list[Path]:
    """Copies of the tree to change."""
    out = []
    for index in range(count):
        tree = folder / str(index)
        tree.mkdir()
        for name in ("s4edge", "tests", "tools", "examples", "benchmarks", "docs"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "Makefile"):
            shutil.copy(ROOT / name, tree)
        out.append(tree)
    return out


def main() -> None:
    """Draw, try and tell."""
    parser = ArgumentParser(description="random mutants of the package under the tests near them")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--limit", type=float, default=600, help="seconds for one mutant")
    parser.add_argument("--again", type=Path, help="results whose survivors are tried again")
    parser.add_argument("--budget", type=float, default=90, help="seconds of tests for one mutant")
    parser.add_argument("--tests", nargs="+", default=[], help="these alone, where they are near")
    parser.add_argument("--trace", type=Path, help="what tests ran; written if it is not there")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in IMPORTED:
        importlib.import_module(name)
    known: list[Mutant] = []
    if options.again is None:
        mutants = draw(options.count, options.seed)
    else:
        everyone = [Mutant(**each) for each in json.loads(options.again.read_text())]
        known = [each for each in everyone if each.outcome != "survived"]
        mutants = [each for each in everyone if each.outcome == "survived"]
        for each in mutants:
            if not find_again(each):
                each.outcome = "gone"
                print(f"no longer there: {each.module}\n{each.change}")
        known += [each for each in mutants if each.outcome == "gone"]
        mutants = [each for each in mutants if each.outcome != "gone"]
    done: list[Mutant] = []
    with tempfile.TemporaryDirectory() as folder:
        trees = copies(options.processes, Path(folder))
        trace = Trace() if options.tests else traced(trees, options.trace)
        free: SimpleQueue[Path] = SimpleQueue()
        for tree in trees:
            free.put(tree)

        def work(mutant: Mutant) -> None:
            tree = free.get()
            try:
                done.append(
                    try_mutant(mutant, tree, options.limit, options.budget, trace, options.tests)
                )
            finally:
                free.put(tree)
            noticed = sum(each.outcome != "survived" for each in done)
            said = f"{mutant.outcome} {mutant.seconds:.0f} s {mutant.tests} tests {mutant.module}"
            print(f"{len(done)}/{len(mutants)} {noticed} noticed; {said}", flush=True)
            if mutant.outcome != "noticed":
                print(mutant.change, flush=True)
            if options.output is not None:
                results = [asdict(each) for each in (*known, *done)]
                options.output.write_text(json.dumps(results, indent=1), encoding="utf-8")

        with ThreadPoolExecutor(options.processes) as pool:
            list(pool.map(work, mutants))
    print(table([*known, *done]))


def traced(trees: list[Path], path: Path | None) -> Trace:
    """What the tests run without a fault: as kept, or now."""
    if path is not None and path.exists():
        return load(path)
    trace = trace_tests(trees, traced_files(), lambda tree, run: _fork(tree, run, 3600))
    if path is not None:
        save(trace, path)
    print(f"{len(trace.seconds)} tests, {sum(trace.seconds.values()):.0f} s", flush=True)
    for name in trace.failed:
        print(f"fails without any fault, left out: {name}", flush=True)
    return trace


def table(mutants: list[Mutant]) -> str:
    """How many of each room were noticed."""
    lines = [f"| room | mutants | {' | '.join(OUTCOMES)} |", "|---|---|---|---|---|---|"]
    for room in (*TESTS, ""):
        mine = [each for each in mutants if each.module.startswith(room)]
        counts = [sum(each.outcome == word for each in mine) for word in OUTCOMES]
        lines.append(f"| {room or 'all'} | {len(mine)} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines)


OUTCOMES = ("noticed", "timed out", "survived", "gone")


if __name__ == "__main__":
    main()
