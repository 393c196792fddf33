"""Signs that an input was obeyed rather than read: events of Python's own audit, and a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

# Nothing that reads a file has a reason for these.
_EVENTS = frozenset({
    "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.kill", "os.putenv",
    "subprocess.Popen", "socket.connect", "socket.bind", "socket.getaddrinfo", "ctypes.dlopen",
    "pickle.find_class", "shutil.rmtree", "urllib.Request", "webbrowser.open", "builtins.input",
    "os.remove", "os.rename", "os.chmod", "os.symlink",
})  # fmt: skip
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC
CANARY = "CANARY"


class Watch:
    """Notes what should not have happened while an input was read.

    Args:
        folder: the only one in which files may be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._canary = folder / CANARY
        self._seen: list[str] = []
        self._on = False
        sys.addaudithook(self._hook)

    def start(self) -> None:
        """Look from now on."""
        self._seen.clear()
        self._on = True

    def stop(self) -> str | None:
        """Look no longer; what was seen, or None."""
        self._on = False
        if self._canary.exists():
            self._canary.unlink()
            self._seen.append("the canary was made")
        return "; ".join(self._seen)[:500] or None

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on:
            return
        if event in _EVENTS and not (event == "os.remove" and self._inside(arguments[0])):
            self._seen.append(f"{event}{arguments}")
        elif event == "open":
            path, mode, flags = arguments
            writes = bool(flags & _WRITES) if isinstance(flags, int) else "r" not in str(mode)
            if writes and not self._inside(path):
                self._seen.append(f"wrote {path}")

    def _inside(self, path: Any) -> bool:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return True  # a descriptor, or a file without a name
        path = os.path.abspath(os.fsdecode(path))
        return path.startswith(self._folder) or path == os.devnull
