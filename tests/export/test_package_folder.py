"""Folders that are written: as a whole, and nothing of somebody else's is lost."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from s4edge import S4EdgeError
from s4edge.export.c.packages.folder import LISTING, check_folder, write_folder

OLD = {"a.txt": "old a\n", "in/b.txt": "old b\n", "in/gone.txt": "old\n"}
NEW = {"a.txt": "new a\n", "in/b.txt": "new b\n", "other/c.txt": "new c\n"}
MINE = "was not written by s4edge, or was changed since"


def content(folder: Path) -> dict[str, str]:
    """Of all files but the list."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != LISTING
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "package", OLD)
    return tmp_path / "package"


def test_new_and_again(folder: Path) -> None:
    assert content(folder) == OLD
    write_folder(folder, NEW)
    assert content(folder) == NEW  # what is no longer written is gone
    write_folder(folder, NEW)
    assert content(folder) == NEW
    assert set(json.loads((folder / LISTING).read_text())["files"]) == set(NEW)
    assert [path.name for path in folder.parent.iterdir()] == ["package"]


def test_files_of_others_stay(folder: Path) -> None:
    (folder / "build").mkdir()
    (folder / "build" / "made.o").write_text("made")
    (folder / "in" / "gone.txt").write_text("changed")
    write_folder(folder, NEW)
    assert content(folder) == {**NEW, "build/made.o": "made", "in/gone.txt": "changed"}


def test_a_folder_of_others_is_written_into_beside_their_files(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "notes.txt").write_text("notes")
    write_folder(tmp_path / "theirs", NEW)
    assert content(tmp_path / "theirs") == {**NEW, "notes.txt": "notes"}


@pytest.mark.parametrize("in_the_way", ["changed", "foreign", "no list", "broken list", "link",
                                        "link above", "file above", "folder"])  # fmt: skip
def test_nothing_of_others_is_replaced(in_the_way: str, folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b.txt").write_text("old b\n")
    if in_the_way == "changed":
        (folder / "a.txt").write_text("mine")
    elif in_the_way == "foreign":
        (folder / "other").mkdir()
        (folder / "other" / "c.txt").write_text("mine")
    elif in_the_way == "no list":
        (folder / LISTING).unlink()
    elif in_the_way == "broken list":
        (folder / LISTING).write_text('{"files": {"a.txt": 3}}')
    elif in_the_way == "link":
        (folder / "in" / "b.txt").unlink()
        (folder / "in" / "b.txt").symlink_to(elsewhere / "b.txt")
    elif in_the_way == "link above":
        for path in (folder / "in").iterdir():
            path.unlink()
        (folder / "in").rmdir()
        (folder / "in").symlink_to(elsewhere)
    elif in_the_way == "file above":
        (folder / "other").write_text("mine")
    else:
        (folder / "other" / "c.txt").mkdir(parents=True)
    before = content(tmp_path)
    for function in (lambda: check_folder(folder, NEW), lambda: write_folder(folder, NEW)):
        with pytest.raises(S4EdgeError, match=MINE):
            function()
    assert content(tmp_path) == before


def test_a_list_names_no_file_outside(folder: Path) -> None:
    victim = folder.parent / "victim.txt"
    victim.write_text("old\n")
    listing = json.loads((folder / LISTING).read_text())
    listing["files"]["../victim.txt"] = listing["files"]["in/gone.txt"]
    listing["files"][str(victim)] = listing["files"]["in/gone.txt"]
    (folder / LISTING).write_text(json.dumps(listing))
    write_folder(folder, NEW)
    assert victim.read_text() == "old\n"
    assert content(folder) == NEW


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(S4EdgeError, match="file: it is no folder; name another file"):
        write_folder(tmp_path / "file", NEW)
    with pytest.raises(S4EdgeError, match=r"the folder .*missing does not exist"):
        write_folder(tmp_path / "missing" / "package", NEW)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(S4EdgeError, match="dangling: it is no folder"):
        write_folder(tmp_path / "dangling", NEW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "file"]


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("at", [0, 2])
def test_a_full_disk_leaves_what_was(
    at: int, old: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if old:
        write_folder(tmp_path / "package", OLD)
    before = content(tmp_path)
    synced, sync = 0, os.fsync

    def full(descriptor: int) -> None:
        nonlocal synced
        synced += 1
        if synced > at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(S4EdgeError, match=r"cannot write .*/package: No space left on device"):
        write_folder(tmp_path / "package", NEW)
    monkeypatch.undo()
    assert content(tmp_path) == before
    assert not list(tmp_path.glob(".*"))
    write_folder(tmp_path / "package", NEW)
    assert content(tmp_path / "package") == NEW


@pytest.mark.parametrize("after", range(5))
def test_interrupted_it_is_still_known_for_ours(
    after: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, done = os.replace, 0

    def stops(source: Path, target: Path) -> None:
        nonlocal done
        if Path(target).is_relative_to(folder):
            done += 1
            if done > after:
                raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", stops)
    with pytest.raises(KeyboardInterrupt):
        write_folder(folder, NEW)
    monkeypatch.undo()
    for name, text in content(folder).items():
        assert text in (OLD.get(name), NEW.get(name))
    write_folder(folder, NEW)
    assert content(folder) == NEW
    assert [path.name for path in folder.parent.iterdir()] == ["package"]
