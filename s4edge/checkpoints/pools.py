"""Upstream's poolings between layers: ``sample``, ``pool`` (or ``avg``), ``linear``.

All have a stride and an expansion; version 2 calls the stride ``pool``. ``sample`` takes every
``stride``-th sample and repeats each feature ``expand`` times. ``avg`` averages; it repeats in
version 3, and in version 4 an ``expand`` that is no null is a linear layer, even one of 1.
``linear`` takes ``stride`` samples side by side through a linear layer.
"""

from __future__ import annotations

from dataclasses import dataclass

from s4edge.checkpoints import linear
from s4edge.checkpoints.facts import Facts
from s4edge.checkpoints.tensors import Linear, Tensors
from s4edge.errors import S4EdgeError
from s4edge.model.configuration import Downsampling

_KINDS: dict[str, Downsampling] = {
    "pool": "mean", "avg": "mean", "sample": "sample", "linear": "stack",
}  # fmt: skip
_WEIGHT = "pool.linear."


@dataclass(frozen=True)
class PoolReading:
    """See `s4edge.model.configuration.BlockConfig` for what they are."""

    stride: int = 1
    downsampling: Downsampling = "mean"
    repeat: int = 1
    widening: Linear | None = None

    @property
    def acts(self) -> bool:
        """Whether it changes anything."""
        return self.stride > 1 or self.repeat > 1 or self.widening is not None


def has_weight(tensors: Tensors) -> bool:
    """Whether the pooling of a block has a linear layer."""
    return linear.find(tensors, _WEIGHT) is not None


def read_pool(tensors: Tensors, facts: Facts, features: int) -> PoolReading:
    """The pooling after a block whose layer gives so many features.

    Raises:
        S4EdgeError: it cannot be read, or its tensors are not those of its configuration.
    """
    pool = facts.part("pool")
    trained = has_weight(tensors)
    # Without a configuration, whatever has a weight is told to be said.
    why = f"what {tensors.prefix}{_WEIGHT}weight does to samples that follow each other is unknown"
    word = pool.word(why=why) if trained else pool.word(None)
    if word is None:
        return PoolReading()
    if word not in _KINDS:
        more = ": it mixes all samples of a sequence" if word == "spectral" else ""
        raise S4EdgeError(
            f"{tensors.path}: pool={word} cannot be read{more}; supported: {', '.join(_KINDS)}"
        )
    stride = pool.whole("pool" if pool.says("pool") else "stride", 1)
    said = pool.get("expand") if pool.says("expand") else None
    expand = 1 if said is None else pool.whole("expand", 1)
    pool.ignore("expand")
    kind = _KINDS[word]
    if not trained:
        if kind == "stack":
            raise S4EdgeError(
                f"{tensors.path} lacks the tensor {tensors.prefix}{_WEIGHT}weight of pool=linear"
            )
        return PoolReading(stride, kind, repeat=expand)
    columns = features * (stride if kind == "stack" else 1)
    widening = Linear(*linear.take(tensors, _WEIGHT, features * expand, columns))
    return PoolReading(stride, kind, widening=widening)
