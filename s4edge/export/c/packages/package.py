"""A model's C files in a folder of some kind, with all that a build system asks for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s4edge.errors import MissingExtraError
from s4edge.export.c.packages.folder import check_folder, write_folder
from s4edge.export.c.packages.kinds import check_name, find_kind
from s4edge.version import VERSION

if TYPE_CHECKING:
    from jinja2 import Environment

_VERSION = re.compile(r"[-_ ]v?(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})(?:\.(0|[1-9]\d{0,5}))?$")
_FIRST_VERSION = "1.0.0"
# Beside a state, a chunk's scratch and the answers, in bytes: calls, and the printing of a number.
_OTHER_STACK, _STACK_STEP = 3072, 512


@dataclass(frozen=True)
class Packaged:
    """A model as C, and what is told of it.

    Attributes:
        name: what its functions begin with.
        version: three numbers.
        inputs: numbers of a sample.
        outputs: numbers of an answer.
        tokens: that an input may be, 0 where it is a number.
        state_bytes: RAM of a stream.
        weight_bytes: of constants.
        step_stack_bytes: scratch of a step.
        selftest_stack_bytes: of the self-test: a chunk's, a state, and its answers.
        code: the text of ``name.c``, which includes ``name.h``.
        header: the text of ``name.h``.
    """

    name: str
    version: str
    inputs: int
    outputs: int
    tokens: int
    state_bytes: int
    weight_bytes: int
    step_stack_bytes: int
    selftest_stack_bytes: int
    code: str
    header: str

    @property
    def stack_bytes(self) -> int:
        """What the stack of a program that runs the self-test needs."""
        needed = self.selftest_stack_bytes + _OTHER_STACK
        return -(-needed // _STACK_STEP) * _STACK_STEP


def version_of(stem: str) -> str:
    """The version that a file's name ends with, as in ``wake-word-1.2``, or 1.0.0."""
    found = _VERSION.search(stem)
    return _FIRST_VERSION if found is None else ".".join(part or "0" for part in found.groups())


def folder_of(path: Path, kind: str, name: str) -> Path:
    """The package's folder, beside the C file."""
    return path.parent / f"{name}-{kind}"


def check_packages(kinds: Iterable[str], path: Path, name: str) -> None:
    """Fail before any work if a package cannot be written.

    Args:
        kinds: members of `KINDS`.
        path: the C file that they are to be written beside.
        name: what its functions begin with.

    Raises:
        S4EdgeError: there is no such kind, it cannot have the name, something in the folder is in
            the way, or jinja2 is not installed.
    """
    for kind in kinds:
        check_name(kind, name)
        if find_spec("jinja2") is None:
            raise MissingExtraError("jinja2", "toolchain")
        names = [*_paths(kind, name).values(), *_model_files(kind, name)]
        check_folder(folder_of(path, kind, name), names)


def write_package(kind: str, path: Path, packaged: Packaged) -> Path:
    """Write one package and give its folder. Arguments and errors as of `check_packages`."""
    name = packaged.name
    folder = folder_of(path, kind, name)
    texts = {
        to: _templates().get_template(template).render(_facts(packaged))
        for template, to in _paths(kind, name).items()
    }
    source, header = _model_files(kind, name)
    write_folder(folder, {**texts, source: packaged.code, header: packaged.header})
    return folder


def _facts(packaged: Packaged) -> dict[str, Any]:
    """What templates know."""
    takes = f"a token below {packaged.tokens}" if packaged.tokens else _numbers(packaged.inputs)
    return {
        "model": packaged,
        "name": packaged.name,
        "NAME": packaged.name.upper(),
        "sample": takes,
        "answer": _numbers(packaged.outputs),
        "s4edge": VERSION,
    }


def _numbers(count: int) -> str:
    return "1 number" if count == 1 else f"{count} numbers"


def _model_files(kind: str, name: str) -> tuple[str, str]:
    found = find_kind(kind)
    return f"{found.source}/{name}.c", f"{found.header}/{name}.h"


def _paths(kind: str, name: str) -> dict[str, str]:
    """Paths in the package by the names of their templates."""
    found = _templates().list_templates(filter_func=lambda each: each.startswith(f"{kind}/"))
    return {each: each[len(kind) + 1 :].removesuffix(".j2").replace("NAME", name) for each in found}


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("s4edge.export.c.packages"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
