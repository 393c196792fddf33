"""What s4edge makes of a saved model, compared with what upstream's code computes."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import s4edge
from upstream.draws import Draw
from upstream.models import Recorded, relative_error, walk, word

OUTCOMES = ("exact", "told", "refused", "WRONG", "CRASH")
_LIMIT = 1e-4
_QUESTION = re.compile(r"say it with --set ([\w.]+)=")
_MOST_QUESTIONS = 12


@dataclass(frozen=True)
class Verdict:
    """How one model was read.

    Attributes:
        outcome: one of `OUTCOMES`; ``told``: another model than the saved one, but every
            difference is among the facts that s4edge says it assumed.
        message: the error, or why it was refused.
        streams: whether it also ran sample by sample, as exactly.
        asked: facts that had to be given, because neither file says them.
        as_told: of a ``told`` one: whether it is exact when the truth is given.
    """

    outcome: str
    message: str
    streams: bool = False
    asked: dict[str, Any] = field(default_factory=dict)
    as_told: bool = False


class Truth:
    """What is true of a drawn model, by the keys that s4edge uses for it."""

    def __init__(self, drawn: Draw, defaults: Mapping[str, Any]) -> None:
        self._drawn = drawn
        self._defaults = defaults
        self._values: dict[str, list[Any]] = {"length": [drawn.length]}
        self._anywhere: dict[str, list[Any]] = {}
        self._collect(drawn.config, "")
        for prefix in ("", "layer."):
            # The older word for it.
            if self._values.get(f"{prefix}final_act") == [None]:
                self._values[f"{prefix}final_act"] = self._values.get(f"{prefix}postact", [None])
        for key, value in walk(drawn.config):
            self._anywhere.setdefault(key, []).append(value)

    def _collect(self, config: Any, prefix: str) -> None:
        """Nested keys by their dotted names: ``decoder.mode``, ``norm.eps``, ``layer.mode``."""
        if isinstance(config, list | tuple):
            for each in config:
                self._collect(each, prefix)
        elif isinstance(config, dict):
            if config.get("_name_") in ("ff", "ffn"):
                prefix = "ffn."
            for key, value in config.items():
                self._values.setdefault(prefix + key, []).append(value)
                within = {"model": "", "layer_kwargs": "layer."}.get(key, f"{prefix}{key}.")
                self._collect(value, within)

    def known(self, key: str) -> list[Any]:
        """All values that the configuration gives it; none if it is left to upstream.

        A bare key is the backbone's or else its layers' own.
        """
        for name in (key, f"layer.{key}", key.replace("_", ".", 1)):
            if name in self._values:
                return self._values[name]
        return self._anywhere.get(key, [])

    def value(self, key: str) -> tuple[bool, Any]:
        """Whether it is one value, and which: as configured, or upstream's default."""
        values = self.known(key)
        if values:
            return all(v == values[0] for v in values), values[0]
        for name in (key, key.rpartition(".")[2]):
            if name in self._defaults:
                return True, self._defaults[name]
        return False, None

    @property
    def decoder(self) -> str:
        """The decoder's name."""
        return word(self._drawn.config.get("decoder"))

    def sayable(self, keys: Iterable[str]) -> bool:
        """Whether ``--set`` can say them: what it says is said of all layers."""
        layers = self._drawn.config.get("model", self._drawn.config).get("layer")
        if not isinstance(layers, list | tuple) or len(layers) == 1:
            return True
        named = {key for layer in layers for key in layer}
        return not any(key.rpartition(".")[2] in named for key in keys)

    def differing(self, assumed: Mapping[str, Any]) -> dict[str, Any]:
        """Assumed facts that are not so, with the truth."""
        return {
            key: self.known(key)[0]
            for key, value in assumed.items()
            if any(not _same(value, true) for true in self.known(key))
        }


# Names of the same thing.
_SYNONYMS = [
    {None, "id", "identity", "linear", "none"},
    {"silu", "swish"},
    {"R", "residual"},
    {"diag", "s4d"},
    {"nplr", "dplr", "s4"},
]


def _same(one: Any, other: Any) -> bool:
    if one == other:
        return True
    try:
        return any(one in names and other in names for names in _SYNONYMS)
    except TypeError:  # of dictionaries
        return False


def judge(
    path: Path, recorded: Recorded, drawn: Draw, given: Mapping[str, Any] | None = None
) -> Verdict:
    """Read a saved model and compare its outputs; ``given`` are facts said from the start."""
    truth = Truth(drawn, recorded.defaults)
    facts: dict[str, Any] = dict(given or {})
    while True:
        verdict, model = _read(path, recorded, facts)
        question = _QUESTION.search(verdict.message) if verdict.outcome == "refused" else None
        if question is None or drawn.way == "sidecar" or len(facts) == _MOST_QUESTIONS:
            break
        key = _meant(question[1], verdict.message)
        known, value = truth.value(key)
        if key == "decoder.mode" and truth.decoder in ("id", "linear", "nd", "stop"):
            key, known, value = "decoder", True, truth.decoder
        if not known or key in facts:
            break
        facts[key] = value
    said: dict[str, Any] = {}
    # Refused with a model: it has been read, and does not take the input.
    while verdict.outcome in ("WRONG", "refused") and model is not None and drawn.way != "sidecar":
        differing = truth.differing(model.provenance.assumed)
        if not differing.keys() - said.keys():
            break
        said |= differing
        told = f"{verdict.message}; assumed {', '.join(differing)}"
        if not truth.sayable(differing):
            return Verdict("told", told, asked=facts)
        again, model = _read(path, recorded, facts | said)
        told += f"; when told: {again.outcome} {again.message}"
        exact = again.outcome == "exact"
        outcome = "told" if exact or again.outcome == "refused" else again.outcome
        verdict = Verdict(outcome, told, again.streams, dict(said), exact)
    return dataclasses.replace(verdict, asked=facts | verdict.asked)


def _meant(key: str, message: str) -> str:
    """The dotted name of what is asked for: the decoder's mode is not the kernel's."""
    return f"decoder.{key}" if f"decoder.{key}" in message else key


def _read(
    path: Path, recorded: Recorded, facts: Mapping[str, Any]
) -> tuple[Verdict, s4edge.SequenceModel | None]:
    model = None
    try:
        with torch.no_grad():
            model = s4edge.load(path, dict(facts))
            outcome, message = compare(model(recorded.x.clone()).double().numpy(), recorded)
            running = _streamed(model, recorded.x) if outcome == "exact" else None
            if running is not None:
                outcome, message = compare(running, recorded)
                message = message if outcome == "exact" else f"as a stream: {message}"
    except s4edge.S4EdgeError as error:
        return Verdict("refused", str(error).replace(str(path), "FILE")), model
    except Exception as error:  # whatever else comes out is a crash, to be counted
        return Verdict("CRASH", f"{type(error).__name__}: {error}"), model
    return Verdict(outcome, message, running is not None), model


def _streamed(model: s4edge.SequenceModel, x: torch.Tensor) -> NDArray[np.float64] | None:
    """What it answers to sequences that come sample by sample.

    Of the outputs after each sample those that it gives for the whole sequence, compared in pairs
    where it has a head. None where it cannot run so, or not for as long.
    """
    config = model.config
    if config.cannot_stream:
        return None
    try:
        running = model.stream(x.clone())
    except s4edge.S4EdgeError:
        return None
    # Behind strides, when an answer is new; it is held in between.
    running = running[:, config.first_answer :: config.stride]
    answers = config.answers
    if config.pooling != "none" and answers is not None:
        running = (
            running[:, : answers or 1]
            if config.pooling == "first"
            else running[:, -(answers or 1) :]
        )
        running = running[:, 0] if answers == 0 else running
    if model.head is not None:
        running = model.head(*running.chunk(2))
    return running.double().numpy()


def is_case(path: Path) -> bool:
    """Whether it is a checkpoint with a recorded input and output beside it."""
    return path.suffix in (".pt", ".ckpt") and path.with_suffix(".npz").exists()


def recorded_case(path: Path) -> tuple[str, Verdict]:
    """Name and verdict of a case with its recorded outputs.

    Its ``NAME.note.json``, if there is one, has the ``facts`` to be given, and under ``or`` others
    that would do as well; ``NAME.config.txt`` the configuration that the file does not hold.
    """
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
        data = {key: file[key] for key in file.files}
    recorded = Recorded(
        state={},
        x=torch.from_numpy(data["x"]),
        y=data["y"].astype(np.float64),
        y64=data.get("y64"),
        error32=float(data.get("err32", np.nan)),
        defaults={},
    )
    note = path.with_name(f"{path.stem}.note.json")
    said = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
    drawn = _blind(path)
    for facts in (said.get("facts", {}), *said.get("or", [])):
        verdict = judge(path, recorded, drawn, facts) if drawn else _read(path, recorded, facts)[0]
        if verdict.outcome != "refused":
            break
    return path.stem, dataclasses.replace(verdict, asked=verdict.asked or facts)


def _blind(path: Path) -> Draw | None:
    """What is true of a case whose configuration lies beside it for people only."""
    beside = path.with_name(f"{path.stem}.config.txt")
    if not beside.exists():
        return None
    true = json.loads(beside.read_text(encoding="utf-8"))
    return Draw("", 0, "", true["cls"], true["config"], true.get("L", 0), "blind", 0.0, None)


def compare(found: NDArray[np.float64], recorded: Recorded) -> tuple[str, str]:
    """Whether an output is upstream's, to what float32 allows."""
    y = recorded.y
    if found.shape != y.shape:
        return "WRONG", f"shape {found.shape}, upstream's is {y.shape}"
    if not np.isfinite(found).all():
        return "WRONG", "not finite"
    error, limit = relative_error(y, found), _LIMIT
    if recorded.y64 is not None:
        error = min(error, relative_error(recorded.y64, found))
        limit = max(limit, 10 * recorded.error32)
    return ("exact", f"{error:.1e}") if error < limit else ("WRONG", f"relative error {error:.2g}")


def reason(message: str) -> str:
    """A refusal's message without what is of this one file: its layers' names and numbers."""
    out = message.replace("FILE: ", "").replace("FILE", "it")
    out = re.sub(r"(model\.|backbone\.)?(s4_)?layers?\.\d+[\w.]*", "LAYER", out)
    return re.sub(r"-?\b\d+(\.\d+)?(e-?\d+)?\b", "#", out)[:200]
