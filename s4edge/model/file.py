"""The `.safetensors` file of a model: tensors by name, configuration and history as JSON metadata.

Loading runs no code from the file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from s4edge.errors import S4EdgeError
from s4edge.files import replacing
from s4edge.foreign import check_file, parse_json
from s4edge.model.configuration import ModelConfig
from s4edge.model.history import from_json, to_json
from s4edge.model.older_files import renewed
from s4edge.model.sequence_model import Provenance, SequenceModel
from s4edge.version import VERSION

FORMAT = 1
_KEY = "s4edge"
_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def save_model(model: SequenceModel, path: str | Path) -> None:
    """Write a model to ``path``, replacing the file as a whole.

    Raises:
        S4EdgeError: the file cannot be written.
    """
    provenance = model.provenance
    description = {
        "format": FORMAT,
        "version": VERSION,
        "config": model.config.to_json(),
        "source": provenance.source,
        "upstream": {
            "format": provenance.format,
            "inferred": provenance.inferred,
            "assumed": provenance.assumed,
            "given": provenance.given,
            "notes": provenance.notes,
        },
        "history": [to_json(entry) for entry in provenance.history],
    }
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    with replacing(Path(path)) as temporary:
        try:
            save_file(tensors, temporary, metadata={_KEY: json.dumps(description)})
        except (SafetensorError, OSError) as error:
            raise S4EdgeError(f"cannot write {path}: {error}") from error


def read_description(path: str | Path) -> dict[str, Any] | None:
    """The JSON description of a file, or None if s4edge did not write it or it cannot be read."""
    if not os.path.isfile(path):
        return None
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
        return json.loads(text) if text is not None else None
    except (SafetensorError, OSError, ValueError, RecursionError):
        return None


def load_model(path: str | Path) -> SequenceModel:
    """Read a model that `save_model` wrote.

    Raises:
        S4EdgeError: the file is damaged, of a newer format, or holds tensors that do not fit its
            configuration.
    """
    path = Path(path)
    check_file(path, "name the file in it", "; write it again")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            # Copies lie in memory as tensors do that were not read: the same sums, to the bit.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        description = None if text is None else parse_json(text)
    except (SafetensorError, OSError, ValueError) as error:
        raise S4EdgeError(
            f"{path} is no readable safetensors file ({error}); it is damaged or incomplete: "
            "write it again"
        ) from error
    if not isinstance(description, dict):
        raise S4EdgeError(f"{path} was not written by s4edge: it has no 's4edge' metadata")
    if description.get("format") != FORMAT:
        raise S4EdgeError(
            f"{path} has format {description.get('format')}, this version of s4edge reads "
            f"{FORMAT}: upgrade s4edge"
        )
    try:
        config = ModelConfig.from_json(description["config"])
        provenance = _provenance(description)
    except (KeyError, TypeError) as error:
        raise S4EdgeError(f"{path} lacks {error} in its description; it is damaged") from error
    except S4EdgeError as error:
        raise S4EdgeError(f"{path}: {error}") from error
    check_tensors(path, config, tensors)
    config, tensors = renewed(description["config"], config, tensors)
    model = SequenceModel(config, provenance)
    # As stored: systems whose weights cancel are float64 in a float32 model.
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def _provenance(description: dict[str, Any]) -> Provenance:
    upstream, history = description["upstream"], description["history"]
    if not isinstance(history, list):
        raise S4EdgeError("its description of what was done to it is damaged")
    provenance = Provenance(
        source=description["source"],
        format=upstream["format"],
        inferred=upstream["inferred"],
        assumed=upstream["assumed"],
        given=upstream["given"],
        notes=upstream["notes"],
        history=[from_json(entry) for entry in history],
    )
    names = (provenance.source, provenance.format)
    facts = (provenance.inferred, provenance.assumed, provenance.given)
    if not (
        all(isinstance(name, str) for name in names)
        and all(isinstance(part, dict) for part in facts)
        and isinstance(provenance.notes, list)
        and all(isinstance(note, str) for note in provenance.notes)
    ):
        raise S4EdgeError("its description of where it came from is damaged")
    return provenance


def check_tensors(path: Path, config: ModelConfig, tensors: dict[str, torch.Tensor]) -> None:
    """Check that tensors are those of a configuration, before a model is made as large as it says.

    Raises:
        S4EdgeError: one is missing, too many, of another shape, or not of finite real numbers.
    """
    numbers = sum(tensor.numel() for tensor in tensors.values())
    if config.real_states > 2 * numbers:
        raise S4EdgeError(
            f"{path}: its configuration says {config.real_states:,} real states, the file holds "
            f"{numbers:,} numbers; it is damaged"
        )
    try:
        with torch.device("meta"):
            expected = SequenceModel(config).state_dict()
    except S4EdgeError as error:
        raise S4EdgeError(f"{path}: {error}") from error
    for name in expected.keys() - tensors.keys():
        raise S4EdgeError(f"{path} lacks the tensor {name}; it is damaged")
    for name in tensors.keys() - expected.keys():
        raise S4EdgeError(f"{path} has a tensor {name} that its configuration does not name")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise S4EdgeError(
                f"{path}: the tensor {name} has shape {tuple(tensor.shape)}, "
                f"its configuration says {tuple(expected[name].shape)}"
            )
        if tensor.dtype not in _DTYPES:
            raise S4EdgeError(f"{path}: the tensor {name} is {tensor.dtype}, expected real numbers")
        if not torch.isfinite(tensor).all():
            raise S4EdgeError(f"{path}: the tensor {name} holds NaN or infinite values")
