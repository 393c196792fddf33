"""Upstream's own code, imported from a checkout that is no part of this repository."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import logging
import sys
import types
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

VERSIONS = ("v4", "v3", "v2", "dss")
NEEDS = ("hydra", "omegaconf", "einops", "opt_einsum", "scipy")

# What upstream imports for training and never calls to build or to run a model.
_UNUSED = (
    "datasets", "dotenv", "hydra_configs", "lightning_fabric", "matplotlib", "munch", "pandas",
    "pytorch_lightning", "seaborn", "sktime", "sklearn", "torchaudio", "torchmetrics", "torchtext",
    "torchvision", "tqdm", "transformers", "wandb",
)  # fmt: skip
# The modules in which version 4's product takes the place of the naive one, and its names there.
_CAUCHY = {
    "v3": (("src.models.s4.s4", "cauchy_naive"),),
    "v2": (("src.models.sequence.ss.standalone.s4", "cauchy_conj"),),
    "dss": (("src.models.sequence.ss.standalone.s4", "cauchy_conj_slow"),),
}


class CannotError(Exception):
    """The checkout cannot be used; the message says what to do."""


class _Anything(types.ModuleType):
    """A module of names that nobody calls: classes to derive from, decorators that do nothing."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name[0].isupper():
            return type(name, (nn.Module,), {})
        return lambda *args, **kwargs: args[0] if len(args) == 1 and callable(args[0]) else None


class _Unused(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the packages of `_UNUSED` that are not installed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.partition(".")[0] not in _UNUSED:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Anything(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing is in it."""


@dataclass(frozen=True)
class Checkout:
    """A version of upstream that can be imported from; one per process.

    Attributes:
        folder: of the checkout.
        version: one of `VERSIONS`.
    """

    folder: Path
    version: str

    def get(self, path: str) -> Any:
        """A class or function by its dotted name."""
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)

    def example(self, layer: Any) -> type[nn.Module]:
        """``example.py``'s backbone with ``layer`` as its layer; its script is not run.

        Args:
            layer: called with ``d_model``, ``dropout`` and whatever else the script passes.
        """
        source = (self.folder / "example.py").read_text(encoding="utf-8")
        found = [
            node
            for node in ast.parse(source).body
            if isinstance(node, ast.ClassDef) and node.name == "S4Model"
        ]
        names: dict[str, Any] = {
            "nn": nn,
            "torch": torch,
            "dropout_fn": nn.Dropout1d,
            "args": types.SimpleNamespace(lr=0.001),
            "S4": layer,
            "S4D": layer,
        }
        exec(compile(ast.Module(found, []), "example.py", "exec"), names)  # upstream's own class
        return names["S4Model"]


def open_checkout(folder: Path, version: str, cauchy: Path | None = None) -> Checkout:
    """Make a checkout importable.

    Args:
        folder: of ``version``.
        version: one of `VERSIONS`.
        cauchy: a checkout of version 4, for the others: without a CUDA extension their product of
            a Cauchy matrix and a vector drops the conjugate half of the state.

    Raises:
        CannotError: something is missing.
    """
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        packages = " ".join({"hydra": "hydra-core"}.get(name, name) for name in NEEDS)
        raise CannotError(f"upstream needs {', '.join(missing)}: pip install {packages}")
    if not (folder / "src" / "models").is_dir():
        raise CannotError(f"{folder} is no checkout of upstream: it has no src/models")
    if version in _CAUCHY and cauchy is None:
        raise CannotError(
            f"version {version} computes S4's kernels with a Cauchy product that drops the "
            "conjugate half; give version 4's with --cauchy FOLDER, a checkout of it"
        )
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    sys.meta_path.append(_Unused())
    if version in _CAUCHY and cauchy is not None:
        _mend_cauchy(version, cauchy)
    if version == "v4":
        _mend_mega()
    if version == "v2":
        _mend_conjugates("src.models.sequence.ss.kernel")
        _mend_conjugates("src.models.sequence.ss.standalone.s4")
    return Checkout(folder, version)


def _mend_cauchy(version: str, folder: Path) -> None:
    path = folder / "src" / "models" / "functional" / "cauchy.py"
    spec = importlib.util.spec_from_file_location("cauchy_of_v4", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise CannotError(f"--cauchy: {folder} is no checkout of version 4: it has no {path.name}")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    product = module.cauchy_naive
    # Also by the names that the others' modules import it by.
    module.cauchy_conj = module.cauchy_conj_slow = product
    sys.modules["src.models.functional.cauchy"] = module
    for where, name in _CAUCHY[version]:
        setattr(importlib.import_module(where), name, product)


def _mend_mega() -> None:
    """Version 4's registry looks for Mega's block elsewhere, and its EMA kernel lacks an import."""
    from einops import rearrange

    kernel: Any = importlib.import_module("src.models.sequence.kernels.kernel")
    kernel.rearrange = rearrange
    registry: Any = importlib.import_module("src.utils.registry")
    registry.layer["mega"] = "src.models.sequence.modules.megablock.MegaBlock"


def _mend_conjugates(where: str) -> None:
    """Version 2 takes torch 2 for one older than 1.10."""
    module: Any = importlib.import_module(where)
    module._resolve_conj = lambda x: x.conj().resolve_conj()


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """While it lasts, ``Tensor.float()``, which upstream calls on kernels, gives float64."""
    single = Tensor.float
    Tensor.float = Tensor.double  # type: ignore[method-assign]
    try:
        yield
    finally:
        Tensor.float = single  # type: ignore[method-assign]
