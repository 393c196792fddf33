"""What a C file that s4edge wrote says of itself, read without a compiler."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from s4edge.errors import S4EdgeError

_TEXT = r'"(?:\\.|[^"\\])*"'
_DESCRIPTION = re.compile(rf"\nconst char (\w+)_description\[\] =\n((?: *{_TEXT}\n?)+);")


def read_c_description(path: Path) -> dict[str, Any]:
    """The description of a C file; its ``name`` is what its functions begin with.

    Raises:
        S4EdgeError: there is no such file, or s4edge did not write it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise S4EdgeError(f"{path} does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise S4EdgeError(f"cannot read {path}: {reason}") from error
    found = _DESCRIPTION.search(text)
    if found is not None:
        joined = "".join(literal[1:-1] for literal in re.findall(_TEXT, found[2]))
        try:
            description = json.loads(re.sub(r"\\(.)", r"\1", joined))
        except ValueError:
            description = None
        if isinstance(description, dict) and description.get("name") == found[1]:
            return description
    raise S4EdgeError(
        f"{path} was not written by s4edge, or was changed; write it with: s4edge export MODEL --c"
    )
