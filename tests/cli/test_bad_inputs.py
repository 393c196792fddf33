"""Bad input ends with one clear line and leaves every file as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from bad_inputs import OUTPUTS, Case, cases, run
from s4edge_command import snapshot

# What a command may tell before it fails.
NOTES = ("Assumed, ", "Taking ")


def writes(case: Case) -> bool:
    return any(name in case.command for name in OUTPUTS)


CALLS = [pytest.param(case, False, id=case.name) for case in cases()]
CALLS += [
    pytest.param(case, True, id=f"{case.name}, over an old file")
    for case in cases()
    if writes(case)
]


@pytest.mark.parametrize(("case", "old"), CALLS)
def test_one_line_and_no_file(case: Case, old: bool, tmp_path: Path) -> None:
    if case.unless_root and os.geteuid() == 0:
        pytest.skip("permissions do not bind the superuser")
    case.make(tmp_path)
    if old:
        for name in OUTPUTS:
            (tmp_path / name).write_text("the old file")
    before = snapshot(tmp_path)
    outcome = run(case, tmp_path)
    assert outcome.crash is None
    assert outcome.status == case.status
    assert outcome.stdout == ""
    *others, last = outcome.stderr.strip().splitlines()
    assert last.startswith("Error: ")
    assert case.says in last
    assert len(last) < 400
    if case.status == 1:
        assert all(line.startswith(NOTES) for line in others)
    else:
        assert others[0].startswith("Usage: s4edge ")
    after = snapshot(tmp_path)
    assert {name for name in after if "__pycache__" not in name} == set(before)
    assert all(after[name] == content for name, content in before.items())
