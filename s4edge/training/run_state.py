"""Where a training run stands, in one file that is replaced as a whole after every epoch.

Batches and dropout are functions of seed and epoch, so that the epoch's number is all there is to
know of random state; with weights, the optimizer's moments and the best model so far, a run that
is taken up again does the same arithmetic as one that was never interrupted. Loading runs no code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from s4edge.data.dataset import Data
from s4edge.errors import S4EdgeError
from s4edge.files import replacing
from s4edge.foreign import check_file, parse_json, shown
from s4edge.model.configuration import ModelConfig
from s4edge.model.file import check_tensors
from s4edge.model.history import Entry, from_json, to_json
from s4edge.model.sequence_model import Provenance, SequenceModel

_FORMAT = 2
_KEY = "s4edge-run"
# Before names of tensors: of the model, the best one so far, and the optimizer's moments.
_MODEL, _BEST, _OPTIMIZER = "model/", "best/", "optimizer/"


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
    history: list[Entry]
    tensors: dict[str, Tensor]
    optimizer: dict[str, Any]
    seconds: float
    waited: int
    best: Best | None
    log: list[dict[str, Any]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write it. Raises S4EdgeError if the file cannot be written."""
        plain = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        tensors = {f"{_MODEL}{name}": each for name, each in plain.pop("tensors").items()}
        optimizer = plain.pop("optimizer")
        for number, moments in optimizer["state"].items():
            tensors |= {f"{_OPTIMIZER}{number}.{key}": each for key, each in moments.items()}
        plain["groups"] = optimizer["param_groups"]
        if self.best is not None:
            plain["best"] = {**vars(self.best), "tensors": None}
            tensors |= {f"{_BEST}{name}": each for name, each in self.best.tensors.items()}
        # Parts of one memory would be refused: each is written for itself.
        whole = {name: each.detach().cpu().contiguous().clone() for name, each in tensors.items()}
        with replacing(path) as temporary:
            try:
                plain["history"] = [to_json(entry) for entry in self.history]
                said = json.dumps({"format": _FORMAT, **plain})
                save_file(whole, temporary, metadata={_KEY: said})
            except (OSError, SafetensorError) as error:
                raise S4EdgeError(f"cannot write {path}: {error}") from error

    @staticmethod
    def load(path: Path, what: dict[str, Any]) -> RunState:
        """Read it back.

        Raises:
            S4EdgeError: there is none, it is damaged, or the run was another one.
        """
        if not os.path.exists(path):
            raise S4EdgeError(f"there is nothing to resume: {path} does not exist")
        try:
            check_file(path, "name the run's file in it", "")
            with safe_open(path, framework="pt") as file:
                text = (file.metadata() or {}).get(_KEY)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            state = _state(path, {} if text is None else parse_json(text), tensors)
        except (SafetensorError, OSError, ValueError, TypeError, KeyError, S4EdgeError) as error:
            reason = " ".join(str(error).split())[:200]
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


def _state(path: Path, said: Any, tensors: dict[str, Tensor]) -> RunState:
    """From what a file says and holds. Raises S4EdgeError and others where it is damaged."""
    if not isinstance(said, dict) or said.get("format") != _FORMAT:
        raise S4EdgeError("it is of another version")
    kinds: dict[str, Any] = {
        "what": dict, "epoch": int, "config": dict, "history": list, "seconds": (int, float),
        "waited": int, "log": list, "groups": list,
    }  # fmt: skip
    for key, kind in kinds.items():
        if not isinstance(said[key], kind):
            raise S4EdgeError(f"its {key} is {shown(said[key])}")
    if not all(isinstance(each, dict) for each in said["log"]):
        raise S4EdgeError("its log is damaged")
    history = [from_json(entry) for entry in said["history"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(_OPTIMIZER):
            number, _, key = name.removeprefix(_OPTIMIZER).partition(".")
            moments.setdefault(int(number), {})[key] = tensor
    best = said["best"]
    if best is not None:
        best = Best(**{**best, "tensors": _under(_BEST, tensors)})
        check_tensors(path, ModelConfig.from_json(best.config), best.tensors)
    return RunState(
        what=said["what"], epoch=said["epoch"], config=said["config"], history=history,
        tensors=_under(_MODEL, tensors), seconds=said["seconds"], waited=said["waited"],
        optimizer={"state": moments, "param_groups": said["groups"]}, best=best, log=said["log"],
    )  # fmt: skip


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)
    }


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
