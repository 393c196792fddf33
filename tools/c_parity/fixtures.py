"""Checkpoints that upstream wrote, and what its own code gave for them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import s4edge
from s4edge.errors import S4EdgeError
from s4edge.model.sequence_model import SequenceModel

Doubles = NDArray[np.float64]
FOLDERS = ("published", "random", "layers", "trained", "hard")


@dataclass(frozen=True)
class Fixture:
    """A model that streams, and some sequences.

    Attributes:
        model: that was read.
        x: (rows, samples, d_input) float32, tokens as floats; for models of one length whole.
        running: (rows, samples, d_output), what the model gives in double precision after each.
        upstream: what upstream's code gave for all of these sequences, in its own shape.
        whole: whether that can be had of what a stream gives: its kernels are not cut before.
    """

    model: SequenceModel
    x: NDArray[np.float32]
    running: Doubles
    upstream: Doubles
    whole: bool

    def answers(self, streamed: Doubles) -> Doubles:
        """What upstream's code gives, of what a stream of all sequences gave after each sample."""
        config = self.model.config
        if not config.held:
            # A stream repeats an answer to several samples until the next one.
            streamed = streamed[:, config.first_answer :: config.stride]
        if config.answers == 0 and config.pooling != "none":
            y = streamed[:, -1]
        elif config.answers:
            first = config.pooling == "first"
            y = streamed[:, : config.answers] if first else streamed[:, -config.answers :]
        else:
            y = streamed
        if self.model.head is not None:
            with torch.no_grad():
                pairs = torch.from_numpy(y).chunk(2)
                y = copy.deepcopy(self.model.head).double()(*pairs).numpy()
        return np.swapaxes(y, 1, 2) if config.channels_first and y.ndim == 3 else y


def paths(folder: Path, names: Sequence[str] = FOLDERS) -> Iterator[Path]:
    """Of the fixtures in these folders that have recorded outputs."""
    for name in names:
        for path in sorted([*(folder / name).glob("*.ckpt"), *(folder / name).glob("*.pt")]):
            if path.with_suffix(".npz").exists():
                yield path


def load(path: Path, **further: int) -> SequenceModel:
    """With the facts that its note gives, or the next ones where the first are refused.

    A ``.config.txt`` has what a checkpoint that lies there alone does not tell.
    """
    note, alone = (path.with_name(f"{path.stem}{end}") for end in (".note.json", ".config.txt"))
    said = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
    told = json.loads(alone.read_text(encoding="utf-8"))["config"] if alone.exists() else {}
    refused: list[S4EdgeError] = []
    for facts in (said.get("facts", {}), *said.get("or", [])):
        try:
            return s4edge.load(path, {**told, **facts, **further})
        except S4EdgeError as error:
            refused.append(error)
    raise refused[0]


def fixture(path: Path) -> Fixture | str:
    """A checkpoint as a fixture; or why there is nothing to stream."""
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
        x, y = file["x"], file["y64" if "y64" in file.files else next(
            name for name in ("y", "logits") if name in file.files
        )]  # fmt: skip
    try:
        model = load(path)
        axis = 2 if model.config.channels_first else 1
        if model.config.length not in (None, x.shape[axis]):
            model = load(path, length=x.shape[axis])
    except S4EdgeError as error:
        return f"not read: {error}".replace(str(path), "it")
    config = model.eval().config
    if config.cannot_stream is not None:
        return config.cannot_stream
    exact = config.exact_samples
    whole = exact is None or exact >= x.shape[axis]
    if not whole:
        x = x.take(range(exact or 0), axis)
        if config.answers is None or config.pooling == "none":
            answers = len(range(config.first_answer, exact or 0, config.stride))
            y, whole = y.take(range(answers), axis), model.head is None
    into = torch.from_numpy(x)
    with torch.no_grad():
        running = (
            copy.deepcopy(model)
            .double()
            .running(into if config.encoder == "embedding" else into.double())
        )
    samples = x[..., None] if config.encoder == "embedding" else x
    if config.channels_first:
        samples, running = np.swapaxes(samples, 1, 2), running.mT
    return Fixture(
        model,
        np.ascontiguousarray(samples, np.float32),
        running.numpy().astype(np.float64),
        y.astype(np.float64),
        whole,
    )
