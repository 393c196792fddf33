"""The MODEL argument: which file, and what was assumed when it was read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from s4edge.cli.terminal import Command, audience, note
from s4edge.errors import S4EdgeError

if TYPE_CHECKING:
    from s4edge.model.sequence_model import SequenceModel


def set_option(command: Command) -> Command:
    """Add ``--set key=value`` as the parameter ``assignments``."""
    return click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="KEY=VALUE",
        help="A fact that the checkpoint's tensors do not hold (prenorm=true). May be repeated.",
    )(command)


def read_model(path: Path, assignments: tuple[str, ...]) -> SequenceModel:
    """Read a model and tell the person what was assumed, and how to say otherwise."""
    from s4edge.checkpoints.facts import parse_assignments
    from s4edge.workflows import inputs

    return inputs.read_model(path, parse_assignments(assignments), audience())


def model_stem(path: Path) -> str:
    """What files made of a model are called by default: its file's stem, or its folder's name."""
    return path.resolve().name if path.is_dir() else path.stem


def newest_model() -> Path:
    """The newest compressed model in the current folder; says which it took."""
    from s4edge.files import newest_first
    from s4edge.model.file import read_description

    for path in newest_first(Path(), "*.safetensors"):
        if read_description(path) is not None:
            note(f"Taking {path}, the newest compressed model here.")
            return path
    raise S4EdgeError(
        "no compressed model is in this folder; name one, or make one with: "
        "s4edge compress MODEL --state N"
    )
