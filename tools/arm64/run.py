"""s4edge on an ARM board, emulated: installed as there, and everything a board calls carried out.

Makes a folder with Debian's Python for ARM and the base install in a virtual environment, writes
graphs of the shipped examples here, runs them there, and compares. Needs qemu-user-static and apt;
no root, and nothing of the machine is changed. How long anything takes there is no speed.

    python tools/arm64/run.py [--root FOLDER] [--arch arm64|armhf] [--quick]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import onnxruntime
from rich.console import Console
from rich.table import Table
from rich.text import Text

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from arm64.root import CannotError, Root, check_machine  # noqa: E402
from arm64.targets import TARGETS  # noqa: E402
from board import Board, Samples, build_wheel, checks, last_line, write_samples  # noqa: E402
from parity import LIMITS, MODES, digit_models, spoken_model, too_far, worst, write_graphs  # noqa: E402

DEFAULT_FOLDER = HERE.parents[1] / ".arm64"
# What the base's own tests need beside it; as wheels, for the tests only.
FOR_TESTS = ("pytest", "pluggy", "iniconfig", "onnx", "ml_dtypes", "typing_extensions")
TESTED = ("bench", "reports", "runtime")
# Of their tests, what needs the toolchain, looks at the source only, or bids a bench hurry.
LEFT_OUT = (
    "answers", "bench", "bench_compare", "bench_faults", "bench_page", "c_backend",
    "compression_page", "cortex_m", "imports", "old_python", "remote", "remote_command",
    "several_rates",
)  # fmt: skip
SLOW = "stays_flat"
DURATION = 0.5


class Told:
    """What is printed on the way, and whether all was as it must be."""

    def __init__(self) -> None:
        self.console = Console(width=140, highlight=False)
        self.failed = False
        self._start = self._last = time.perf_counter()

    def step(self, what: str) -> None:
        """A part is done; tells how long it took here, which is no speed of a board's."""
        now = time.perf_counter()
        self.console.print(f"[{now - self._last:5.1f} s] {what}", markup=False)
        self._last = now

    def total(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._start


def commands(told: Told, root: Root, samples: Samples) -> None:
    """Carry out what a board calls, and compare."""
    processor = root.target.processors[0]
    board = root.board(processor)
    table = Table(
        "", "found", "", title=f"{processor.name}, as in a {processor.board}; emulated",
        title_justify="left",
    )  # fmt: skip
    packages, _ = board.packages()
    megabytes = sum(size for _, size, _ in packages.values()) / 1e6
    # Debian's own packages do not tell their files to Python.
    table.add_row(
        f"{len(packages)} packages", f"{megabytes:.1f} MB" if root.target.wheels else "", "",
    )  # fmt: skip
    for name, found, ok in checks(board, samples, DURATION):
        told.failed |= not ok
        table.add_row(name, Text(found), "ok" if ok else "[bold red]NO")
    told.console.print(table)


def parity(told: Told, root: Root, graphs: Path, models: list[str], quick: bool) -> None:
    """Outputs on each processor against this machine's."""
    kinds = [(mode, each) for each in LIMITS for mode in MODES]
    table = Table(
        "", "model", *(f"{mode}\n{each}" for mode, each in kinds), title_justify="left",
        title="Largest difference to this machine's outputs, relative to the largest output",
    )  # fmt: skip
    for processor in root.target.processors[: 1 if quick else None]:
        version, errors = root.board(processor).parity(graphs)
        for model in models:
            cells = (worst(errors, model, *kind) for kind in kinds)
            table.add_row(
                processor.name, model, *("" if cell is None else f"{cell:.1e}" for cell in cells)
            )
        far = too_far(errors)
        told.failed |= bool(far)
        told.step(
            f"{len(errors)} graphs on {processor.name} ({processor.board}), onnxruntime {version}"
            + (f"; TOO FAR: {', '.join(far)}" if far else "")
        )
    told.console.print(table)


def unit_tests(told: Told, root: Root) -> None:
    """The base's own tests, there. They write graphs with onnx, which comes for them alone."""
    folder = root.folder / "for-tests"
    if not folder.is_dir():
        root.pip("install", "--no-deps", "--target", folder, *FOR_TESTS)
    board = root.board(root.target.processors[0])
    variables = {"PYTHONPATH": str(folder), "PYTHONPYCACHEPREFIX": str(root.folder / "compiled")}
    board = Board(board.python, {**board.environment, **variables}, emulated=True)
    tests = HERE.parents[1] / "tests"
    files = [
        file
        for room in TESTED
        for file in (tests / room).glob("test_*.py")
        if file.stem[5:] not in LEFT_OUT
    ]
    call = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", f"not {SLOW}", *sorted(files))
    try:
        done = board.call(*call, folder=tests.parent)
        said, ok = done.stdout, True
    except subprocess.CalledProcessError as error:
        said, ok = f"{error.stdout}\n{error.stderr}", False
    told.failed |= not ok
    told.console.print(said.strip() if not ok else "", markup=False, end="" if ok else "\n")
    told.step(f"{len(files)} test files: {said.strip().splitlines()[-1]}")


@click.command()
@click.option(
    "--root", "folder", type=click.Path(file_okay=False, path_type=Path), default=DEFAULT_FOLDER,
    help="Where what is downloaded and built is kept.  [default: .arm64 in the repository]",
)  # fmt: skip
@click.option("--arch", type=click.Choice(list(TARGETS)), default="arm64", show_default=True)
@click.option("--suite", default="trixie", show_default=True, help="Debian's release.")
@click.option(
    "--onnxruntime", "runtime", default=onnxruntime.__version__, show_default=True,
    help="The version to run there; armhf takes Debian's.",
)  # fmt: skip
@click.option("--quick", is_flag=True, help="One processor, one model, no tests.")
@click.option(
    "--skip-unable", is_flag=True, help="Where qemu or apt is missing, say so and exit with 0."
)
def main(folder: Path, arch: str, suite: str, runtime: str, quick: bool, skip_unable: bool) -> None:
    """Build, install, run, compare; exit status 1 where something is off."""
    told, target = Told(), TARGETS[arch]
    root = Root(folder, target, suite)
    try:
        root.build(check_machine(target))
        told.step(f"Debian {suite}, {arch}, with Python {root.version}")
        with tempfile.TemporaryDirectory() as scratch:
            root.install(build_wheel(Path(scratch) / "wheel"), runtime)
            told.step("s4edge and what it depends on, installed there with venv and pip")
            samples = write_samples(Path(scratch) / "samples")
            graphs = Path(scratch) / "graphs"
            models = digit_models() if not quick else {"state64": digit_models()["state64"]}
            models |= {} if quick else {"spoken": spoken_model()}
            write_graphs(graphs, models)
            told.step("graphs, data and a recording, written here with their outputs")
            commands(told, root, samples)
            told.step("what a board calls")
            parity(told, root, graphs, list(models), quick)
            if not quick and target.wheels:
                unit_tests(told, root)
    except CannotError as error:
        if not skip_unable:
            raise click.ClickException(str(error)) from error
        told.console.print(f"Emulated {arch}: skipped, {error}.", markup=False, soft_wrap=True)
        return
    except subprocess.CalledProcessError as error:
        what = " ".join(map(str, error.cmd[:6]))
        raise click.ClickException(f"{what} ...: {last_line(error)}") from error
    told.console.print(
        f"{'SOMETHING IS OFF' if told.failed else 'All as it must be'} on emulated {arch}, in "
        f"{told.total():.0f} s. Times there are those of an emulator and say nothing about a board."
    )
    sys.exit(int(told.failed))


if __name__ == "__main__":
    main()
