"""Fixtures for all tests, and the --slow option."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_graph import DESCRIPTION, Rotation, WriteGraph, write_model

try:
    from threadpoolctl import threadpool_limits
except ModuleNotFoundError:  # on a board
    threadpool_limits = contextlib.nullcontext

if "PYTEST_XDIST_WORKER" in os.environ:
    # A process per core: threads of theirs would only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell's background job ignores Ctrl-C, and under nohup a hang-up; what tests start would, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run tests that take minutes, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow: run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many tests were skipped for each reason: what a machine lacks is otherwise overlooked."""
    reports = terminalreporter.getreports("skipped")
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in reports
        if isinstance(report.longrepr, tuple)
    )
    terminalreporter.section(f"skipped: {len(reports)}")
    for reason, count in reasons.most_common():
        terminalreporter.line(f"{count:5}  {reason}")


def shared_folder() -> Path:
    """Where checkpoints written by upstream code and real data are, if they are there."""
    return Path(os.environ.get("S4EDGE_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    folder = shared_folder()
    if not (folder / "checkpoints").is_dir():
        pytest.skip(f"no upstream checkpoints in {folder} (set S4EDGE_SHARED)")
    return folder


@pytest.fixture(scope="session")
def digits() -> Path:
    """The shipped example's folder."""
    return ROOT / "examples" / "digits"


@pytest.fixture(autouse=True, scope="session")
def one_blas_thread() -> Iterator[None]:
    """As compression has it: threads on matrices this small wait for each other."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def rotation() -> Rotation:
    return Rotation()


@pytest.fixture
def write_graph(tmp_path: Path) -> WriteGraph:
    """Write a step graph: ``write_graph(name, batch=..., output_name=..., **description)``.

    A description key given as ``...`` is left out; ``text=`` replaces the whole description.
    """

    def write(
        name: str = "model.onnx",
        *,
        batch: int | str = "batch",
        output_name: str = "y",
        text: str | None = "",
        **changes: Any,
    ) -> Path:
        kept = {k: v for k, v in (DESCRIPTION | changes).items() if v is not ...}
        return write_model(
            tmp_path / name, json.dumps(kept) if text == "" else text, batch, output_name
        )

    return write
