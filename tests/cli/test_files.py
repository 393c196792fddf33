"""Files that are replaced as a whole or not at all."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from s4edge.errors import S4EdgeError
from s4edge.files import check_writable, newest_first, replacing


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("old", [False, True])
def test_whole_file_under_its_name(tmp_path: Path, old: bool) -> None:
    path = tmp_path / "file"
    if old:
        path.write_text("old")
    with replacing(path) as temporary:
        assert temporary.parent == path.parent  # renaming is atomic within a file system only
        assert temporary.name.startswith(".")
        temporary.write_text("new")
        assert path.exists() == old
        if old:
            assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [False, True])
def test_nothing_happens_when_the_block_fails(
    tmp_path: Path, error: type[BaseException], old: bool
) -> None:
    path = tmp_path / "file"
    if old:
        path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise error
    assert names(tmp_path) == (["file"] if old else [])
    assert not old or path.read_text() == "old"


@pytest.mark.usefixtures("umask")
def test_mode_of_a_normal_new_file(tmp_path: Path) -> None:
    """Also where a library makes the file anew with a mode of its own."""
    path = tmp_path / "file"
    with replacing(path) as temporary:
        temporary.write_text("x")
    assert mode(path) == 0o640
    with replacing(path) as temporary:
        temporary.unlink()
        temporary.touch(mode=0o600)
    assert mode(path) == 0o640


@pytest.mark.usefixtures("umask")
def test_modes_of_models_and_graphs(tmp_path: Path, built: Path) -> None:
    from s4edge import export_onnx, load, save

    model = load(built / "model-s16.safetensors")
    save(model, tmp_path / "m.safetensors")
    export_onnx(model, tmp_path / "m.onnx")
    assert [mode(path) for path in tmp_path.iterdir()] == [0o640, 0o640]


def test_two_writers_at_once(tmp_path: Path) -> None:
    """Each has a temporary file of its own; a reader sees one whole file or the other."""
    path = tmp_path / "file"
    contents = {"a" * 10_000, "b" * 10_000}
    done = threading.Event()

    def write(content: str) -> None:
        while not done.is_set():
            with replacing(path) as temporary:
                temporary.write_text(content)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    try:
        while not path.exists():
            pass
        assert all(path.read_text() in contents for _ in range(50))
    finally:
        done.set()
        for writer in writers:
            writer.join()
    assert names(tmp_path) == ["file"]


def test_temporary_name_fits_and_is_no_model(tmp_path: Path) -> None:
    """No pattern that looks for models or graphs finds a temporary file."""
    with replacing(tmp_path / "m.safetensors") as temporary:
        temporary.write_text("half")
        assert list(tmp_path.glob("*.safetensors")) == []


@pytest.mark.parametrize("writable", [replacing, check_writable])
def test_refused(tmp_path: Path, writable: object) -> None:
    def attempt(path: Path) -> None:
        if writable is check_writable:
            check_writable(path)
            return
        with replacing(path):
            raise AssertionError("the block must not run")

    with pytest.raises(S4EdgeError, match=r"^cannot write .*/no/file: "):
        attempt(tmp_path / "no" / "file")
    with pytest.raises(S4EdgeError, match="it is a folder; name a file"):
        attempt(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(S4EdgeError, match=r"^cannot write .*/file/sub: "):
        attempt(tmp_path / "file" / "sub")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(S4EdgeError, match="it is a device or a pipe; name a file"):
        attempt(tmp_path / "pipe")
    assert names(tmp_path) == ["file", "pipe"]


def test_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *arguments: False)
    with pytest.raises(S4EdgeError, match="no permission to write in"):
        check_writable(tmp_path / "file")


def test_failing_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", fail)
    with (
        pytest.raises(S4EdgeError, match=r"cannot write .*/file: No space left on device"),
        replacing(path) as temporary,
    ):
        temporary.write_text("new")
    assert names(tmp_path) == ["file"]
    assert path.read_text() == "old"


def test_newest_first(tmp_path: Path) -> None:
    for age, name in enumerate(("b.x", "a.x", "c.x", "d.y")):
        path = tmp_path / name
        path.touch()
        os.utime(path, (1_000_000_000 - age, 1_000_000_000 - age))
    (tmp_path / "dangling.x").symlink_to("nowhere")
    assert [path.name for path in newest_first(tmp_path, "*.x")] == ["b.x", "a.x", "c.x"]


def test_the_model_that_is_read_is_not_overwritten(digits: Path, tmp_path: Path) -> None:
    import shutil

    from click.testing import CliRunner

    from s4edge.cli.main import cli

    model = tmp_path / "model.pt"
    shutil.copyfile(digits / "model.pt", model)
    before = model.read_bytes()
    for command in (["compress", str(model), "--state", "8"], ["export", str(model), "--onnx"]):
        result = CliRunner().invoke(cli, [*command, "-o", str(model)])
        assert result.exit_code == 1
        assert "it is the model that is read" in result.output
    assert model.read_bytes() == before
