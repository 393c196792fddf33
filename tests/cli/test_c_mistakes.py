"""Each mistake with models as C ends with status 1 and one line that says what and what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from c_mistakes import MISTAKES, Mistake, outcome, prepare


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc here (apt install gcc)")
    made = tmp_path_factory.mktemp("mistakes")
    prepare(made)
    return made


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda each: each.name)
def test_one_line(mistake: Mistake, folder: Path) -> None:
    before = {path for path in folder.rglob("*") if "cache" not in path.parts}
    found = outcome(mistake, folder)
    if isinstance(found, str):
        pytest.skip(found)
    assert (found.status, found.stdout) == (1, "")
    (line,) = found.stderr.splitlines()
    assert line.startswith("Error: ")
    assert mistake.says in line
    # Neither a traceback nor a folder that only the program knows.
    assert "/s4edge-" not in line
    assert str(folder) not in line
    assert {path for path in folder.rglob("*") if "cache" not in path.parts} == before
