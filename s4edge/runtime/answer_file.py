"""Answers as lines of a file that gets its name at the end, whatever ended it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from s4edge.errors import S4EdgeError
from s4edge.files import is_special, replacing


class AnswerFile:
    """Lines, written at once; what is in the file are whole lines.

    Attributes:
        lines: that were written.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self.lines = 0
        self._descriptor, self._path = descriptor, path
        self._size = 0

    def write(self, line: str) -> None:
        """Append a line, without its end.

        Raises:
            S4EdgeError: the disk is full or fails; the lines before stay.
        """
        data = memoryview((line + "\n").encode())
        try:
            whole = len(data)
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            kept = f"; the {self.lines} answers before are kept there" if self.lines else ""
            raise S4EdgeError(f"cannot write {self._path}: {error.strerror}{kept}") from error
        self._size += whole
        self.lines += 1


def _open(path: Path, named: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY)
    except OSError as error:
        raise S4EdgeError(f"cannot write {named}: {error.strerror}") from error


@contextlib.contextmanager
def answer_file(path: Path) -> Iterator[AnswerFile]:
    """Open a file for answers; it replaces ``path`` at the end, also after an error or Ctrl-C.

    Without any answer before these, ``path`` is left as it was.

    Raises:
        S4EdgeError: it cannot be written.
    """
    if is_special(path):
        descriptor = _open(path, path)
        try:
            yield AnswerFile(descriptor, path)
        finally:
            os.close(descriptor)
        return
    trouble: BaseException | None = None
    with replacing(path) as temporary:
        descriptor = _open(temporary, path)
        lines = AnswerFile(descriptor, path)
        try:
            yield lines
        except (S4EdgeError, OSError, KeyboardInterrupt, SystemExit) as error:
            if not lines.lines:
                raise
            trouble = error
        finally:
            os.close(descriptor)
    if trouble is not None:
        raise trouble
