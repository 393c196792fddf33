"""Whole commands on changed files: an answer, or one line and status 1."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random

from click.testing import CliRunner

from s4edge.cli.main import cli
from s4edge.errors import S4EdgeError

from .. import seeds
from ..reader import Reader
from . import answers, arrays, graphs, models, recordings, sidecars, tables, torch_files

# What is changed, under which name, and the command that reads it.
_CALLS = (
    (torch_files, "model.pt", ("inspect", "model.pt", "--json")),
    (models, "model.safetensors", ("inspect", "model.safetensors")),
    (sidecars, "s4d.json", ("inspect", "s4d.pt")),
    (answers, "bench.json", ("bench", "--compare", "bench.json", "good.json")),
    (graphs, "changed.onnx", ("eval", "changed.onnx", "--data", "data.npz")),
    (arrays, "changed.npz", ("eval", "s4d-step.onnx", "--data", "changed.npz", "--json")),
    (recordings, "sound.wav", ("run", "s4d-step.onnx", "sound.wav", "--last")),
    (tables, "table.csv", ("run", "s4d-step.onnx", "table.csv", "--every", "3")),
)


@cache
def _seeds() -> Sequence[bytes]:
    """Each with the number of its call before it."""
    return [
        bytes([number]) + seed
        for number, (module, *_) in enumerate(_CALLS)
        for seed in module.READERS[0].seeds()
    ]


def _mutate(random: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    reader = _CALLS[data[0]][0].READERS[0]
    return data[:1] + reader.mutate(random, data[1:], reader.seeds())


def _prepare(folder: Path) -> None:
    answers.READERS[0].prepare(folder)
    for name in ("s4d.pt", "s4d-step.onnx"):
        (folder / name).write_bytes(seeds.models()[name])
    (folder / "data.npz").write_bytes(seeds.archives()[0])


def _read(folder: Path) -> object:
    data = (folder / "call").read_bytes()
    _, name, arguments = _CALLS[data[0] % len(_CALLS)]
    (folder / name).write_bytes(data[1:])
    before = Path.cwd()
    os.chdir(folder)
    try:
        done = CliRunner().invoke(cli, arguments, prog_name="s4edge")
    finally:
        os.chdir(before)
        with contextlib.suppress(OSError):
            (folder / name).unlink()
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    if done.exit_code == 1:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        if not last.startswith("Error: "):
            raise AssertionError(f"status 1 after {last!r}")
        raise S4EdgeError(last)
    if done.exit_code != 0:
        raise AssertionError(f"status {done.exit_code}: {done.stderr[-200:]}")
    return done.stdout


READERS = (Reader("command", "call", _seeds, _mutate, _read, 0.5, _prepare),)
