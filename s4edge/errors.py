"""The one exception that a user's mistake raises."""

from __future__ import annotations

import sys

# What a board calls runs on older ones, too.
OLDEST_FOR_EXTRAS = (3, 10)


_LONGEST = 4000


class S4EdgeError(Exception):
    """Something the user can mend: one line that says what is wrong, where, and what to do.

    The command line prints it as ``Error: ...`` without a traceback and exits with status 1.
    """

    def __str__(self) -> str:
        # Names in a file may hold anything: more lines, what a terminal obeys, a book.
        text = super().__str__().replace("\n", " ")
        if len(text) > _LONGEST:
            text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
        return "".join(each if each.isprintable() else "?" for each in text)


class MissingExtraError(S4EdgeError):
    """A part of s4edge was called whose dependencies are not installed."""

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(
            f'this needs {module}, which is not installed; type: pip install "s4edge[{extra}]"'
            if sys.version_info >= OLDEST_FOR_EXTRAS
            else "only bench, run and eval of a graph work on Python "
            f"{sys.version_info[0]}.{sys.version_info[1]}; this needs "
            f"{OLDEST_FOR_EXTRAS[0]}.{OLDEST_FOR_EXTRAS[1]} or newer"
        )


# As C++, torch, onnxruntime and the system's loader put it.
_NO_MEMORY = (
    "bad_alloc",
    "bad allocation",
    "allocate memory",
    "failed to map segment",
)


def means_no_memory(error: BaseException) -> bool:
    """Whether an exception, of whatever class, says that memory ran out."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY)
