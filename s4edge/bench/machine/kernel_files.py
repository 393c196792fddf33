"""The small text files in which Linux tells about the machine; absent ones are no error."""

from __future__ import annotations

from pathlib import Path


def read_text(path: Path) -> str | None:
    """Give a file's text without the white space around it, None where it cannot be read."""
    try:
        return path.read_bytes().decode(errors="replace").strip("\0 \t\n")
    except OSError:
        return None


def read_int(path: Path) -> int | None:
    """Give a whole number, decimal or with 0x, None where there is none."""
    text = read_text(path)
    try:
        return None if text is None else int(text, 0)
    except ValueError:
        return None


def find(folder: Path, pattern: str) -> list[Path]:
    """Give the paths below ``folder`` that match, sorted; none where it cannot be read."""
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []
