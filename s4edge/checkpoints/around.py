"""What lies around a backbone in a wrapper of unknown code: a linear layer before it, one behind.

Tensors cannot tell how features are pooled before a head; that is asked for. What else such a
wrapper may do without tensors (an activation, a rescaling) is assumed not to be done, and said.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.tensors import Tensors
from s4edge.errors import S4EdgeError
from s4edge.model.configuration import Encoder
from s4edge.model.sequence_model import SequenceModel

_BEFORE = re.compile(
    r"(^|[._])(enc|encoder|embed\w*|emb|wte|input\w*|in_proj|proj_in|stem)([._\d]|$)"
)
_BEHIND = re.compile(
    r"(^|[._])(dec|decoder|head|heads|classifier|classification_head|cls|score|scores|lm_head|"
    r"output\w*|out|out_proj|proj_out|fc|logits|linear|readout|regressor)([._\d]|$)"
)
_POOLINGS = ("mean", "sum", "last", "first", "none")


FACTS = ("pooling", "d_input", "d_output")
"""Facts about what lies around, not about the backbone."""


def add_around(
    model: SequenceModel, path: Path, around: dict[str, Tensor], prefix: str, facts: Facts
) -> None:
    """Put the layers that lie around a backbone into its model, which is changed in place.

    Args:
        model: the backbone alone.
        path: of the file, for messages.
        around: the tensors outside the backbone.
        prefix: the backbone's, for messages.
        facts: of `FACTS`; ``pooling`` is asked for where there is a head.

    Raises:
        S4EdgeError: a tensor is of no linear layer or embedding that fits the backbone there, or
            the pooling is not known.
    """
    config = model.config
    tensors = Tensors(path, around)
    bare = (config.encoder, config.decoder, config.pooling) == ("none", "none", "none")
    if not bare or config.d_output != config.d_model:
        raise _refusal(path, sorted(around), prefix, "the model has both ends already")
    groups = sorted({name.rpartition(".")[0] for name in around})
    before = [group for group in groups if _BEFORE.search(group)]
    behind = [group for group in groups if group not in before and _BEHIND.search(group)]
    others = [group for group in groups if group not in (*before, *behind)]
    names = sorted(name for name in around if name.rpartition(".")[0] in others)
    if others or len(before) > 1 or len(behind) > 1:
        names = names or sorted(around)
        raise _refusal(path, names, prefix, "it is not known what is done with them")
    for group in before:
        model.encoder = _encoder(tensors, f"{group}.", config.d_model, path, prefix)
        tokens = isinstance(model.encoder, nn.Embedding)
        kind: Encoder = "embedding" if tokens else "linear"
        d_input = tensors.shape(f"{group}.weight")[0 if tokens else 1]
        model.config = replace(model.config, encoder=kind, d_input=d_input)
        facts.inferred["encoder"] = f"{kind}, {group}"
    for group in behind:
        pooling = facts.get(
            "pooling", allowed=_POOLINGS,
            why=f"behind {prefix.rstrip('.')} there is a head, {group}, and how features are "
            "pooled over time before it cannot be told from tensors",
        )  # fmt: skip
        linear = _linear(tensors, f"{group}.", None, config.d_model, path, prefix)
        model.decoder = linear
        model.config = replace(
            model.config, decoder="linear", d_output=linear.out_features, pooling=pooling
        )
        facts.inferred["decoder"] = f"linear, {group}"
    tensors.finish()
    model.config = replace(model.config, channels_first=False)
    facts.assumed["around the backbone"] = "nothing but " + " and ".join((*before, *behind))
    facts.infer("d_input", model.config.d_input)
    facts.infer("d_output", model.config.d_output)
    facts.finish()
    told = model.provenance
    told.inferred |= facts.inferred
    told.assumed |= facts.assumed
    told.given |= facts.given


def _refusal(path: Path, names: list[str], prefix: str, why: str) -> S4EdgeError:
    part = prefix.rstrip(".")
    some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    alone = f"the part alone is read with --set prefix={part}" if part else ""
    return S4EdgeError(
        f"{path} has tensors outside {part or 'its backbone'} that s4edge cannot place ({some}): "
        f"{why}; s4edge reads one linear layer or embedding before a backbone and one linear layer "
        f"behind it; {alone}"
    )


def _encoder(
    tensors: Tensors, group: str, features: int, path: Path, prefix: str
) -> nn.Linear | nn.Embedding:
    """A linear layer has a bias, or as many rows as there are features and other columns."""
    shape = tensors.shape(group + "weight", "rows", "columns")
    if group + "bias" in tensors or (shape[0] == features and shape[1] != features):
        return _linear(tensors, group, features, None, path, prefix)
    if shape[1] != features:
        raise _refusal(path, [group + "weight"], prefix, f"its shape {shape} does not fit")
    table = nn.Embedding(shape[0], shape[1])
    with torch.no_grad():
        table.weight.copy_(torch.from_numpy(tensors.take(group + "weight", *shape)))
    return table


def _linear(
    tensors: Tensors, group: str, rows: int | None, columns: int | None, path: Path, prefix: str
) -> nn.Linear:
    """A linear layer; without a bias in the file it has one of zeros."""
    shape = tensors.shape(group + "weight", "rows", "columns")
    if (rows or shape[0], columns or shape[1]) != shape:
        raise _refusal(
            path, [group + "weight"], prefix, f"its shape {shape} does not fit the backbone's width"
        )
    linear = nn.Linear(shape[1], shape[0])
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(tensors.take(group + "weight", *shape)))
        linear.bias.zero_()
        if group + "bias" in tensors:
            linear.bias.copy_(torch.from_numpy(tensors.take(group + "bias", shape[0])))
    return linear
