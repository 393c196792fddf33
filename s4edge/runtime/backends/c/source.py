"""What a C file that s4edge wrote says of itself, read without a compiler."""

from __future__ import annotations

import re
from pathlib import Path

from s4edge.errors import S4EdgeError
from s4edge.foreign import check_file
from s4edge.runtime.description import GraphInfo, read_description

EXPORT_HINT = "s4edge export MODEL --c"

_TEXT = r'"(?:\\.|[^"\\])*"'
_DESCRIPTION = re.compile(rf"\nconst char \w+_description\[\] =\n((?: *{_TEXT}\n?)+);")


def read_c_description(path: Path) -> GraphInfo:
    """The description of a C file; in its ``extra`` ``name`` is what its functions begin with.

    Raises:
        S4EdgeError: there is no such file, or s4edge did not write it.
    """
    check_file(path, "name a .c file in it", f"; export it again with: {EXPORT_HINT}")
    try:
        found = _DESCRIPTION.search(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise S4EdgeError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        found = None
    if found is None:
        raise S4EdgeError(
            f"{path} was not written by s4edge, or was changed; write it with: {EXPORT_HINT}"
        )
    joined = "".join(literal[1:-1] for literal in re.findall(_TEXT, found[1]))
    return read_description(path, re.sub(r"\\(.)", r"\1", joined), EXPORT_HINT)


def header_of(path: Path) -> Path:
    """The header beside a C file. Raises S4EdgeError if it is not there."""
    header = path.with_suffix(".h")
    if not header.is_file():
        raise S4EdgeError(f"{path} needs its header {header.name} beside it, which is not there")
    return header
