"""What a board installs: size, time to import, and whether all that a board calls works with it.

Builds the project's wheel and installs it, with what it depends on and nothing else, into a fresh
virtual environment of each Python; removed afterwards. Exit status 1 where something is off.

    python tools/base_install.py [--python PATH]... [--wheels FOLDER]
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
from board import Board, Samples, build_wheel, checks, last_line, write_samples
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

LIMIT_MB = 170
OLDEST = (3, 9)
DURATION = 0.3


def version_of(python: str | Path) -> tuple[int, ...] | None:
    """The version of an interpreter, None where it does not start."""
    try:
        said = subprocess.run([python, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", said.stdout)
    return None if found is None else tuple(map(int, found.groups()))


def on_path() -> list[Path]:
    """One interpreter of each version from `OLDEST` on that can be called by name."""
    names = (f"python{OLDEST[0]}.{minor}" for minor in range(OLDEST[1], 30))
    found = {version_of(name): Path(path) for name in names if (path := shutil.which(name))}
    return [path for version, path in found.items() if version is not None]


def install(python: Path, wheel: Path, home: Path, wheels: Path | None) -> Board:
    """A fresh virtual environment with the wheel and what it depends on.

    Raises:
        CalledProcessError: it cannot be made.
    """
    subprocess.run([python, "-m", "venv", home], check=True, capture_output=True)
    board = Board(home / "bin" / "python")
    links = () if wheels is None else ("--find-links", wheels)
    pip = ("-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--prefer-binary")
    board.call(*pip, *links, wheel)
    return board


class Report:
    """A table of what was found, and whether all of it is as it must be."""

    def __init__(self, title: str) -> None:
        self.table = Table("", "found", "", title=title, title_justify="left")
        self.failed = False

    def add(self, what: str, found: str, ok: bool | None = None) -> None:
        """One row; ``ok`` None for what is only told."""
        self.failed |= ok is False
        # As text, for a bracket in what is found is no markup.
        self.table.add_row(what, Text(found), {True: "ok", False: "[bold red]NO", None: ""}[ok])


def examine(board: Board, samples: Samples, report: Report) -> None:
    """Fill the table for one environment."""
    packages, heavy = board.packages()
    for name, (version, size, _) in sorted(packages.items(), key=lambda item: -item[1][1]):
        report.add(f"{name} {version}", f"{size / 1e6:.2f} MB")
    total = sum(size for _, size, _ in packages.values()) / 1e6
    compiled = sum(size for _, _, size in packages.values()) / 1e6
    found = f"{total:.1f} MB; {total + compiled:.1f} MB with compiled Python"
    report.add(f"{len(packages)} packages", found, total <= LIMIT_MB)
    report.add("of the toolchain", ", ".join(heavy) or "none", not heavy)
    for module in ("numpy", "onnxruntime", "s4edge", "s4edge.runtime"):
        report.add(f"import {module}", f"{1e3 * board.import_seconds(module):.0f} ms")
    report.add("s4edge --help", f"{1e3 * board.help_seconds(samples.folder):.0f} ms, whole process")
    for name, found, ok in checks(board, samples, DURATION):
        report.add(name, found, ok)


@click.command()
@click.option(
    "--python", "pythons", multiple=True, type=click.Path(exists=True, path_type=Path),
    help="An interpreter; may be repeated.  [default: each python3.X on PATH from 3.9 on]",
)  # fmt: skip
@click.option(
    "--wheels", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of wheels that pip may take, too.",
)  # fmt: skip
def main(pythons: Sequence[Path], wheels: Path | None) -> None:
    """Install, look, and print a table for each Python."""
    console = Console(width=110)
    pythons = pythons or on_path()
    if not pythons:
        raise click.UsageError("no python3.9 or newer is on PATH; name one with --python")
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        wheel = build_wheel(Path(scratch) / "wheel")
        samples = write_samples(Path(scratch) / "samples")
        for python in track(pythons, "Installing", console=Console(stderr=True), transient=True):
            version = ".".join(map(str, version_of(python) or ("?",)))
            report = Report(f"\nPython {version}")
            home = Path(scratch) / f"environment-{version}"
            try:
                board = install(python, wheel, home, wheels)
                examine(board, samples, report)
            except subprocess.CalledProcessError as error:
                report.add("install", last_line(error), ok=False)
            shutil.rmtree(home, ignore_errors=True)
            failed |= report.failed
            console.print(report.table)
    console.print(
        "MB = 10^6 bytes of the files that packages list as their own, without pip; at most "
        f"{LIMIT_MB} MB. Times are medians of 5 new processes, each with all that it imports.",
        style="dim",
    )
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
