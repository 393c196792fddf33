"""s4edge: compress trained S4 / S4D / DSS models and stream them on small CPUs.

Names are imported when first used: ``import s4edge`` pulls in no torch, scipy or onnx.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from s4edge.errors import MissingExtraError, S4EdgeError
from s4edge.version import VERSION

__version__ = VERSION

# onnxruntime, since 1.29, reports its use to its maker: a thread, a database in the home folder and
# a connection, none of which belongs on a board. Set to 0 beforehand, it may.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from s4edge.api import compress, compress_, evaluate, export_c, export_onnx, load, save

__all__ = [
    "S4EdgeError",
    "__version__",
    "compress",
    "compress_",
    "evaluate",
    "export_c",
    "export_onnx",
    "load",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 's4edge' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module("s4edge.api"), name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "a package", "toolchain") from error


def __dir__() -> list[str]:
    return __all__
