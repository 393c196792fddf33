"""How many small faults the tests notice: random mutants, each under the tests near it.

    python tools/mutation.py [--count 200] [--seed 0] [--processes 2] [-o RESULTS.json]
    python tools/mutation.py --again RESULTS.json [-o RESULTS.json]   # the survivors alone

Needs cosmic-ray, whose operators make the mutants (`pip install cosmic-ray`). Each is tried in a
copy of the tree, by a process forked from one that has imported the libraries already. A mutant is
noticed when a test fails, or does not end in time. What survives is printed with its line; whether
it changes anything is for people to say.
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
import sys
import tempfile
import time
from argparse import ArgumentParser
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parents[1]
# The rooms whose modules are changed, and the tests that look at each, the nearest first.
TESTS = {
    "systems": ("systems", "compression"),
    "compression": ("compression", "workflows", "cli/test_calibrate.py", "cli/test_sweep.py"),
    "export/lowering": ("export", "random_models"),
    "export/onnx": ("export/onnx", "export", "random_models", "cli/test_three_calls.py"),
    "checkpoints": ("checkpoints", "workflows", "cli/test_bad_tensors.py", "fuzz"),
    "training": ("training", "cli/test_finetune_command.py"),
    "runtime": ("runtime", "cli/test_run.py", "random_models"),
    "model": ("model", "random_models", "checkpoints/test_sequence_backbone.py", "compression"),
    "data": ("data", "runtime", "training"),
}
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
        outcome: "noticed", "survived" or "" before it was tried.
        change: the line before and after.
        seconds: of the tests.
    """

    module: str
    operator: str
    occurrence: int
    outcome: str = ""
    change: str = ""
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


def tests_of(module: str) -> list[str]:
    """Files and folders below ``tests`` for a module, its namesake first."""
    room = max((room for room in TESTS if module.startswith(f"{room}/")), key=len)
    named = f"test_{Path(module).stem}.py"
    first = [path for path in sorted((ROOT / "tests").rglob(named)) if path.is_file()]
    chosen = [path.relative_to(ROOT).as_posix() for path in first]
    chosen += [f"tests/{name}" for name in TESTS[room] if (ROOT / "tests" / name).exists()]
    return list(dict.fromkeys(chosen))


def try_mutant(mutant: Mutant, tree: Path, limit: float) -> Mutant:
    """Change one file of a copy of the tree, run the tests there, and change it back."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    path = tree / "s4edge" / mutant.module
    before = path.read_text(encoding="utf-8")
    operator = get_operator(f"core/{mutant.operator}")()
    after = mutate_code(before, operator, mutant.occurrence)
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    mutant.change = "\n".join(list(lines)[2:])
    started = time.perf_counter()
    path.write_text(after, encoding="utf-8")
    try:
        mutant.outcome = "noticed" if _fails(tree, tests_of(mutant.module), limit) else "survived"
    finally:
        path.write_text(before, encoding="utf-8")
    mutant.seconds = round(time.perf_counter() - started, 1)
    return mutant


def check(tree: Path, limit: float) -> None:
    """Raise SystemExit where tests fail without any fault."""
    chosen = sorted({name for names in TESTS.values() for name in names})
    failing = [name for name in chosen if _fails(tree, [f"tests/{name}"], limit)]
    if failing:
        raise SystemExit(f"these fail without any fault: {', '.join(failing)}")


def _fails(tree: Path, tests: list[str], limit: float) -> bool:
    """Whether a test fails, in a process of its own, or they take more than ``limit`` seconds."""
    child = os.fork()
    if child == 0:
        os.setsid()
        os._exit(_run(tree, tests))
    until = time.monotonic() + limit
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status != 0
        time.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def _run(tree: Path, tests: list[str]) -> int:
    import pytest

    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    os.environ["PYTHONPATH"] = str(tree)
    os.environ.setdefault("S4EDGE_SHARED", str(ROOT.parent / "shared"))
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(tree)]
    try:
        return int(pytest.main([*options, *tests]))
    except BaseException:
        return 1


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
    parser.add_argument("--check", action="store_true", help="first try the tests without a fault")
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
        known = [each for each in everyone if each.outcome == "noticed"]
        mutants = [each for each in everyone if each.outcome != "noticed"]
    done: list[Mutant] = []
    with tempfile.TemporaryDirectory() as folder:
        trees: SimpleQueue[Path] = SimpleQueue()
        for tree in copies(options.processes, Path(folder)):
            trees.put(tree)
        if options.check:
            check(Path(folder) / "0", 20 * options.limit)

        def work(mutant: Mutant) -> None:
            tree = trees.get()
            try:
                done.append(try_mutant(mutant, tree, options.limit))
            finally:
                trees.put(tree)
            noticed = sum(each.outcome == "noticed" for each in done)
            print(f"{len(done)}/{len(mutants)} {noticed} noticed; {mutant.outcome} "
                  f"{mutant.seconds:.0f} s {mutant.module}", flush=True)  # fmt: skip
            if mutant.outcome == "survived":
                print(mutant.change, flush=True)
            if options.output is not None:
                results = [asdict(each) for each in (*known, *done)]
                options.output.write_text(json.dumps(results, indent=1), encoding="utf-8")

        with ThreadPoolExecutor(options.processes) as pool:
            list(pool.map(work, mutants))


if __name__ == "__main__":
    main()
