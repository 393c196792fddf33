"""JSON values of model files as the types that dataclasses declare; what does not fit, in words."""

from __future__ import annotations

from typing import Any

from s4edge.errors import S4EdgeError
from s4edge.foreign import shown
from s4edge.json_codec import MisfitError, decode

_NAMES = {
    int: "a whole number", float: "a number", str: "text", bool: "true or false", list: "a list",
    dict: "an object",
}  # fmt: skip


def build(kind: Any, value: Any, where: str) -> Any:
    """A JSON value as a ``kind``, as `s4edge.json_codec.decode` takes one.

    Args:
        kind: its type.
        value: what `json.loads` gave for it.
        where: what it is, for messages.

    Raises:
        S4EdgeError: it is of another type, a field of a dataclass is missing or unknown, or a
            literal is not among those known.
    """
    try:
        return decode(kind, value)
    except MisfitError as error:
        raise S4EdgeError(_told(error, where)) from error


def _told(error: MisfitError, where: str) -> str:
    keys = [part for part in error.where if isinstance(part, str)]
    where = keys[-1] if keys else where
    if error.problem == "unknown":
        return f"{where} has an option {shown(error.value)} that this version does not know"
    if error.problem == "missing":
        return f"{where} lacks {error.value}"
    if error.problem == "choice":
        known = ", ".join(map(str, error.wanted))
        return f"{where} {shown(error.value)} is unknown to this version; it knows {known}"
    if error.problem == "count":
        return f"{where} has {error.value} values, not {error.wanted}"
    return f"{where} is {shown(error.value)}, not {_NAMES[error.wanted]}"
