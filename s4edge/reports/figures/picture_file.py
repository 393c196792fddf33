"""A figure as a file of its own."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from s4edge.errors import MissingExtraError, S4EdgeError
from s4edge.files import check_writable, replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")


def check_plot(path: Path) -> None:
    """Fail before any work if no picture can be written there.

    Raises:
        S4EdgeError: the suffix is of no format here, the folder cannot be written, or matplotlib
            is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise S4EdgeError(
            f"--plot writes {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, by the file's suffix; "
            f"{path} has none of them"
        )
    check_writable(path)
    if find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "toolchain")


def write_picture(figure: Figure, path: Path) -> None:
    """Write a figure, its format by the suffix of ``path``.

    Raises:
        S4EdgeError: it cannot be written.
    """
    with replacing(path) as temporary:
        try:
            figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=160)
        except OSError as error:
            raise S4EdgeError(f"cannot write {path}: {error.strerror or error}") from error
