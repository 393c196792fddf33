"""The one exception that a user's mistake raises."""

from __future__ import annotations


class S4EdgeError(Exception):
    """Something the user can mend: one line that says what is wrong, where, and what to do.

    The command line prints it as ``Error: ...`` without a traceback and exits with status 1.
    """


class MissingExtraError(S4EdgeError):
    """A part of s4edge was called whose dependencies are not installed."""

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(
            f'this needs {module}, which is not installed; type: pip install "s4edge[{extra}]"'
        )
