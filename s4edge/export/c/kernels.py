"""The sections of kernels.c that a model needs."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

_SECTION = re.compile(r"/\* == (\w+)(?:: ([\w ]+))? == \*/\n")


def kernels(
    sections: Collection[str], features: Collection[str] = (), gated: Collection[str] = ()
) -> str:
    """C that computes what stages compute.

    Args:
        sections: of kernels.c; those that they need come with them.
        features: functions of `s4edge.model.activations` that are applied to every feature.
        gated: functions of gates.
    """
    text = Path(__file__).with_name("kernels.c").read_text(encoding="utf-8")
    _, *found = _SECTION.split(text)
    names, needs, bodies = found[::3], found[1::3], found[2::3]
    wanted = {*sections, *features, *gated, *(["each"] * bool(features)), *(["glu"] * bool(gated))}
    # What a section needs stands before it.
    for name, needed in zip(reversed(names), reversed(needs), strict=True):
        if name in wanted:
            wanted |= set((needed or "").split())
    chosen = [body.strip() for name, body in zip(names, bodies, strict=True) if name in wanted]
    made = [f"FEATURES({name})" for name in sorted(features)]
    made += [f"GATED({name})" for name in sorted(gated)]
    return "\n\n".join([*chosen, *(["\n".join(made)] if made else [])])
