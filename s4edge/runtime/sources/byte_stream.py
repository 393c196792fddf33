"""Bytes in order, from a file or from a pipe that hands over what is there."""

from __future__ import annotations

import zipfile
import zlib
from typing import IO

from s4edge.errors import S4EdgeError


class ByteStream:
    """Reads forward only, with a look ahead.

    Every method raises S4EdgeError if reading fails.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.name = name
        self._held = b""
        # read1 gives what is there, read waits until all of it is.
        self._read = getattr(file, "read1", file.read)

    def some(self, most: int) -> bytes:
        """What is there, at least one byte; none only at the end."""
        if not self._held:
            return self._more(most)
        data, self._held = self._held[:most], self._held[most:]
        return data

    def exactly(self, count: int) -> bytes:
        """So many bytes; fewer only at the end."""
        parts = []
        while count > 0:
            data = self.some(min(count, 1 << 20))
            if not data:
                break
            parts.append(data)
            count -= len(data)
        return b"".join(parts)

    def peek(self, count: int) -> bytes:
        """The next bytes, which stay; fewer only at the end."""
        while len(self._held) < count:
            data = self._more(count - len(self._held))
            if not data:
                break
            self._held += data
        return self._held[:count]

    def skip(self, count: int) -> bool:
        """Pass over bytes; whether there were so many."""
        while count > 0:
            data = self.some(min(count, 1 << 20))
            if not data:
                return False
            count -= len(data)
        return True

    def _more(self, most: int) -> bytes:
        try:
            data: bytes = self._read(most)
        except OSError as error:
            raise S4EdgeError(f"cannot read {self.name}: {error.strerror or error}") from error
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise S4EdgeError(f"{self.name} is damaged: {error}") from error
        return data
