"""Files that come from elsewhere: whether they can be read at all, and JSON within bounds."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from s4edge.errors import S4EdgeError

_DEEPEST = 100
_LONGEST_SHOWN = 80
_LARGEST_TEXT = 64 << 20


def check_file(path: Path, folder: str, empty: str) -> None:
    """Fail where a path is no ordinary file that can be read and has something in it.

    A pipe would be waited for, and cannot be read from two places.

    Args:
        path: the file.
        folder: what to do where it is a folder.
        empty: what to do where it is empty.

    Raises:
        S4EdgeError: it is missing, a folder, a pipe or device, not readable, or empty.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise S4EdgeError(f"{path} is a folder; {folder}")
        if not stat.S_ISREG(mode):
            raise S4EdgeError(f"{path} is a device or a pipe; copy what it gives to a file first")
        with open(path, "rb") as file:
            if not file.read(1):
                raise S4EdgeError(f"{path} is empty{empty}")
    except FileNotFoundError as error:
        raise S4EdgeError(f"{path} does not exist") from error
    except OSError as error:
        raise S4EdgeError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # a zero byte in the name
        raise S4EdgeError(f"cannot read {str(path)!r}: {error}") from error


def read_text(path: Path) -> str:
    """The text of a file or of a pipe that a shell opened, where it is UTF-8.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no text, larger than any that is read here, or a pipe that nobody may
            ever write to.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        data = file.read(_LARGEST_TEXT + 1)
    if len(data) > _LARGEST_TEXT:
        raise ValueError(f"it is larger than {_LARGEST_TEXT >> 20} MB")
    return data.decode("utf-8-sig")


def _without_waiting(path: str, flags: int) -> int:
    if stat.S_ISFIFO(os.stat(path).st_mode) and not path.startswith(("/dev/", "/proc/")):
        raise ValueError("it is a pipe")
    return os.open(path, flags)


def shown(value: Any) -> str:
    """A value as a message of one line shows it: cut where it is long."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."


def parse_json(text: str, finite: bool = True, signs: bool = True) -> Any:
    """What a JSON text holds.

    Args:
        text: the whole of it.
        finite: refuse what JSON itself does not know, NaN and infinity.
        signs: refuse halves of signs, which stand for bytes in names of files that are no text.

    Raises:
        ValueError: it is no JSON, says something twice, is nested more than 100 deep, or holds
            whole numbers of more than 64 bits.
    """
    try:
        value = json.loads(
            text,
            parse_int=_whole,
            parse_float=_finite if finite else float,
            parse_constant=_no_number if finite else float,
            object_pairs_hook=_once,
        )
        _check_depth(value)
    except RecursionError as error:
        raise ValueError(f"it is nested more than {_DEEPEST} deep") from error
    if signs and "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _whole(digits: str) -> int:
    if len(digits) > 20 or not -(1 << 63) <= int(digits) < 1 << 64:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is too large a number")
    return value


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:40]!r} twice in one object")
    return found


def _check_depth(value: Any) -> None:
    level: Iterable[Any] = [value]
    for _ in range(_DEEPEST):
        level = [
            part
            for each in level
            if isinstance(each, (dict, list))
            for part in (each.values() if isinstance(each, dict) else each)
            if isinstance(part, (dict, list))
        ]
        if not level:
            return
    raise ValueError(f"it is nested more than {_DEEPEST} deep")
