"""Files that are replaced as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from s4edge.errors import S4EdgeError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it onto ``path`` if the block succeeds.

    Whatever interrupts the block, ``path`` is the old file, the whole new one, or not there.

    Raises:
        S4EdgeError: the folder does not exist or cannot be written, or ``path`` is a folder, a
            device or a pipe.
    """
    path = Path(path)
    _check_replaceable(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            # What a new file of this user's may do; libraries that write it anew are stricter.
            mode = os.fstat(descriptor).st_mode & 0o777
            os.close(descriptor)
        except OSError as error:
            raise S4EdgeError(f"cannot write {path}: {error.strerror}") from error
        yield temporary
        try:
            with open(temporary, "rb+") as file:
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise S4EdgeError(f"cannot write {path}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):  # renamed, or never made
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a whole file of UTF-8; where that fails the old one stays.

    Raises:
        S4EdgeError: the file cannot be written.
    """
    with replacing(path) as temporary:
        try:
            temporary.write_text(text, encoding="utf-8")
        except OSError as error:
            raise S4EdgeError(f"cannot write {path}: {error.strerror or error}") from error


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Write whole files: all are on the disk before the first one gets its name.

    Raises:
        S4EdgeError: one of them cannot be written; the old ones stay.
    """
    with contextlib.ExitStack() as stack:
        for path, content in contents.items():
            temporary = stack.enter_context(replacing(path))
            try:
                write_through(temporary, content)
            except OSError as error:
                raise S4EdgeError(f"cannot write {path}: {error.strerror or error}") from error


def write_through(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk. Raises OSError if it cannot be."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def newest_first(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder whose names match, the one written last first."""
    found = []
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):  # gone since, or a dangling link
            found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found, reverse=True)]


def check_writable(path: Path, model: Path | None = None, *others: str | Path | None) -> None:
    """Fail now, not after minutes of work, if ``path`` cannot be written.

    Raises:
        S4EdgeError: the folder does not exist or cannot be written, or ``path`` is a folder, the
            ``model`` that is read or one of the ``others``: data that is read, files that are
            written, too.
    """
    path = Path(path)
    for source, what in (
        (model, "the model that is read"),
        *((o, "used here, too") for o in others),
    ):
        if source is not None and _same_file(path, Path(source)):
            raise S4EdgeError(f"cannot write {path}: it is {what}; name another file")
    folder = path.parent
    _check_replaceable(path)
    if not folder.is_dir():
        raise S4EdgeError(f"cannot write {path}: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK):
        raise S4EdgeError(f"cannot write {path}: no permission to write in {folder}")


def is_special(path: Path) -> bool:
    """Whether it is a device or a pipe: a renamed file would take its place."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _check_replaceable(path: Path) -> None:
    if path.is_dir():
        raise S4EdgeError(f"cannot write {path}: it is a folder; name a file")
    if is_special(path):
        raise S4EdgeError(f"cannot write {path}: it is a device or a pipe; name a file")


def _same_file(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.absolute() == other.absolute()
