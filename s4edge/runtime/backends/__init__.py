"""Which backend runs which file. A backend is imported when a file of its kind is opened."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import cast

from s4edge.errors import S4EdgeError
from s4edge.runtime.backends.base import Backend

# By the suffix of files. What has none of them is taken for the first.
_MODULES = {".onnx": "onnx", ".so": "c.graph", ".c": "c.graph"}
SUFFIXES = tuple(_MODULES)


def backend_of(path: Path) -> Backend:
    """The backend that opens a file, told by its suffix.

    Raises:
        S4EdgeError: a package that it needs is not installed.
    """
    name = _MODULES.get(path.suffix, _MODULES[SUFFIXES[0]])
    try:
        return cast(Backend, importlib.import_module(f"{__name__}.{name}"))
    except ModuleNotFoundError as error:
        raise S4EdgeError(
            f"{path} needs {error.name}, which is not installed; type: pip install {error.name}"
        ) from error


def versions() -> dict[str, str | None]:
    """Versions of the packages that run models, None of one that is not installed."""
    try:
        return importlib.import_module(f"{__name__}.onnx").versions()
    except ModuleNotFoundError:
        return {"onnxruntime": None}
