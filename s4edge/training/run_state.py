"""Where a training run stands, in one file that is replaced as a whole after every epoch.

Batches and dropout are functions of seed and epoch, so that the epoch's number is all there is to
know of random state; with weights, the optimizer's moments and the best model so far, a run that
is taken up again does the same arithmetic as one that was never interrupted. Loading runs no code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s4edge.data.dataset import Data
from s4edge.errors import S4EdgeError
from s4edge.files import replacing
from s4edge.model.configuration import ModelConfig
from s4edge.model.sequence_model import Provenance, SequenceModel

_FORMAT = 1


@dataclass
class Best:
    """The best model so far.

    Attributes:
        config: of the model.
        tensors: by name.
        epoch: after which it was, from 1; 0 is the start.
        loss: on the validation data, if there is any.
        metric: "accuracy" or None.
        value: of it.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    epoch: int
    loss: float | None
    metric: str | None
    value: float | None

    def model(self, provenance: Provenance) -> SequenceModel:
        """As a model of its own."""
        model = SequenceModel(ModelConfig.from_json(self.config), provenance)
        model.load_state_dict(self.tensors, assign=True)
        return model.eval()


@dataclass
class RunState:
    """Everything that a run needs to go on.

    Attributes:
        what: settings, data and original model; a run is taken up again with the same only.
        epoch: epochs that are done.
        config: of the model as it is now.
        history: of its provenance.
        tensors: of the `Trainable`.
        optimizer: its state.
        seconds: spent so far.
        waited: epochs without a better validation.
        best: or None before the first epoch.
        log: lines so far.
    """

    what: dict[str, Any]
    epoch: int
    config: dict[str, Any]
    history: list[dict[str, Any]]
    tensors: dict[str, Tensor]
    optimizer: dict[str, Any]
    seconds: float
    waited: int
    best: Best | None
    log: list[dict[str, Any]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write it. Raises S4EdgeError if the file cannot be written."""
        content = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        content["best"] = None if self.best is None else dict(vars(self.best))
        plain = {key: content.pop(key) for key in ("what", "config", "history", "log")}
        with replacing(path) as temporary:
            try:
                torch.save({"format": _FORMAT, "json": json.dumps(plain), **content}, temporary)
            except (OSError, RuntimeError) as error:
                raise S4EdgeError(f"cannot write {path}: {error}") from error

    @staticmethod
    def load(path: Path, what: dict[str, Any]) -> RunState:
        """Read it back.

        Raises:
            S4EdgeError: there is none, it is damaged, or the run was another one.
        """
        if not path.exists():
            raise S4EdgeError(f"there is nothing to resume: {path} does not exist")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                content = torch.load(path, map_location="cpu", weights_only=True)
            if content.pop("format") != _FORMAT:
                raise ValueError("it is of another version")
            content |= json.loads(content.pop("json"))
            content["best"] = None if content["best"] is None else Best(**content["best"])
            state = RunState(**content)
        except Exception as error:  # torch, pickle and zipfile have many kinds for damaged files
            reason = " ".join(str(error).split())[:100]
            raise S4EdgeError(
                f"{path} is no readable run ({reason}); start again without --resume"
            ) from error
        before, now = _flat(state.what), _flat(json.loads(json.dumps(what)))
        differ = sorted(key for key in before.keys() | now if before.get(key) != now.get(key))
        if differ:
            key = differ[0]
            raise S4EdgeError(
                f"{path} is of another run: {', '.join(differ)} differ ({key} was "
                f"{before.get(key)}, is {now.get(key)}); call it as before, or start again "
                "without --resume"
            )
        return state


def fingerprint(data: Data | None) -> str | None:
    """Of all numbers in the data."""
    if data is None:
        return None
    digest = hashlib.sha256()
    for array in (data.x, data.y, data.lengths):
        if array is not None:
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def model_fingerprint(model: SequenceModel | None) -> str | None:
    """Of all tensors of a model."""
    if model is None:
        return None
    digest = hashlib.sha256(json.dumps(model.config.to_json()).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:16]


def _flat(what: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in what.items():
        out |= value if isinstance(value, dict) else {key: value}
    return out
