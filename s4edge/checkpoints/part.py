"""Which part of a state dict is the model that readers know: all of it, or what a prefix begins."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from s4edge.checkpoints import bare_layer, example_backbone, families, sequence_backbone
from s4edge.checkpoints.tensors import Tensors
from s4edge.errors import S4EdgeError

# Where a backbone's blocks begin in a name; its prefix stands before.
_BLOCKS = re.compile(r"(?:^|\.)((?:s4_)?layers)\.\d+\.")


@dataclass(frozen=True)
class Part:
    """A model within a state dict.

    Attributes:
        prefix: of its names, with the dot; empty for all of them.
        tensors: those of the part, under their whole names.
        around: the others.
        notes: what a person should know about the choice.
    """

    prefix: str
    tensors: dict[str, Tensor]
    around: dict[str, Tensor]
    notes: tuple[str, ...] = ()

    def view(self, path: Path) -> Tensors:
        """The part's tensors for a reader; ``path`` is for messages."""
        return Tensors(path, self.tensors, self.prefix)


def find_part(
    path: Path, tensors: dict[str, Tensor], prefix: str | None = None, wrapped: bool = False
) -> Part | None:
    """The model within a state dict; None if no reader knows any of it.

    Args:
        path: for messages.
        tensors: the state dict.
        prefix: the part to take alone, as a person says it; its dot may be left out.
        wrapped: whether "model." may begin the names of a wrapper of the person's own, without
            the trainer's encoder and decoder.

    Raises:
        S4EdgeError: nothing begins with ``prefix``, there are several models, or one of a family
            that is not read.
    """
    if prefix is not None:
        return _asked(path, tensors, prefix)
    names = set(tensors)
    _refuse_families(path, names)
    if not wrapped and (_is_backbone(names) or bare_layer.claims(Tensors(path, tensors))):
        return Part("", tensors, {})
    found = _backbones(names) or _layers(path, tensors)
    if len(found) > 1:
        some = ", ".join(each.rstrip(".") for each in found[:3]) + (", ..." if found[3:] else "")
        raise S4EdgeError(
            f"{path} holds {len(found)} models or layers that s4edge knows ({some}) inside one "
            f"that it does not know; read one alone with --set prefix={found[0].rstrip('.')}, or "
            "reduce all of them where they are, in Python: s4edge.compress_(module, state=N)"
        )
    return _split(tensors, found[0]) if found else None


def _asked(path: Path, tensors: dict[str, Tensor], prefix: str) -> Part:
    dotted = f"{prefix.rstrip('.')}." if prefix.rstrip(".") else ""
    part = _split(tensors, dotted)
    _refuse_families(path, {name.removeprefix(dotted) for name in part.tensors})
    if not part.tensors:
        raise S4EdgeError(
            f"{path} has no tensor under prefix={prefix}; it has " + ", ".join(sorted(tensors)[:3])
        )
    left = sorted(part.around)
    some = ", ".join(left[:3]) + (f" and {len(left) - 3} more" if left[3:] else "")
    notes = (f"read alone, as asked: {dotted.rstrip('.')}; left out: {some}",) if left else ()
    return Part(dotted, part.tensors, {}, notes)


def _refuse_families(path: Path, names: set[str]) -> None:
    family = families.refusal(names)
    if family is not None:
        raise S4EdgeError(f"{path}: {family}")


def _split(tensors: dict[str, Tensor], prefix: str) -> Part:
    inside = {name: value for name, value in tensors.items() if name.startswith(prefix)}
    around = {name: value for name, value in tensors.items() if name not in inside}
    return Part(prefix, inside, around)


def _is_backbone(names: set[str]) -> bool:
    return example_backbone.claims(names) or sequence_backbone.claims(names)


def _backbones(names: set[str]) -> list[str]:
    """Prefixes of whole backbones."""
    begun = {name[: match.start(1)] for name in names for match in _BLOCKS.finditer(name)}
    found: set[str] = set()
    for prefix in sorted(begun, key=len):
        if any(prefix.startswith(each) for each in found):
            continue
        if _is_backbone({n.removeprefix(prefix) for n in names if n.startswith(prefix)}):
            found.add(_with_ends(names, prefix))
    return sorted(found)


def _with_ends(names: set[str], prefix: str) -> str:
    """The trainer's prefix where its encoder or decoder stands beside the backbone ``model``."""
    outer = prefix.removesuffix("model.")
    ends = re.compile(rf"{re.escape(outer)}(encoder|decoder)\.\d+\.")
    return outer if outer != prefix and any(map(ends.match, names)) else prefix


def _layers(path: Path, tensors: dict[str, Tensor]) -> list[str]:
    """Prefixes of single layers, the innermost where one holds another."""
    prefixes = {name[: dot.end()] for name in tensors for dot in re.finditer(r"\.", name)} | {""}
    claimed = [prefix for prefix in prefixes if bare_layer.claims(Tensors(path, tensors, prefix))]
    return sorted(
        prefix
        for prefix in claimed
        if not any(other != prefix and other.startswith(prefix) for other in claimed)
    )
