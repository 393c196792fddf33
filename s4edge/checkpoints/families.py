"""Families of models that are recognized by their tensors' names and not read, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """A family that s4edge does not read whole.

    Attributes:
        name: for people.
        mark: what a tensor's name of it, and of nothing that is read, contains.
        why: it is not read.
        instead: what a person can do.
    """

    name: str
    mark: re.Pattern[str]
    why: str
    instead: str


_IN_PLACE = (
    "reduce its layers where they are, in Python: s4edge.compress_(module, state=N); "
    "or read one layer alone with --set prefix=NAME"
)

FAMILIES = (
    Family(
        "a SaShiMi backbone",
        re.compile(r"(^|\.)c_layers\.\d+\."),
        "it is a U-net whose layers run at several rates and whose stages add to each other; "
        "s4edge's form is one chain of blocks",
        _IN_PLACE,
    ),
    Family(
        "an H3 model",
        re.compile(r"(^|\.)ssm_k_kernel\."),
        "its diagonal systems read the product of two projections, one of them behind a shift "
        "(a FIR filter, which has no diagonal form); s4edge's systems read features",
        "reduce its diagonal kernels where they are, in Python: s4edge.compress_(module, state=N)",
    ),
    Family(
        "a Mega block",
        re.compile(r"(^|\.)mx_proj\."),
        "it attends to other samples (attention over chunks or all of the sequence), which is no "
        "linear system; its moving average alone is one",
        "read that alone with --set prefix=NAME (the layer with alpha, delta, beta, gamma, omega)",
    ),
    Family(
        "an S4ND layer",
        re.compile(r"(^|\.)kernel\.\d+\.(kernel\.)?(C|inv_dt|log_dt|A_real|inv_A_real|gamma)$"),
        "it convolves along several axes (images, videos), and s4edge's sequences have one",
        "reduce its kernels where they are, in Python: s4edge.compress_(module, state=N)",
    ),
    Family(
        "a Mamba model",
        re.compile(r"(^|\.)A_log$"),
        "its step sizes and weights depend on the input, so that it is no fixed linear system",
        "s4edge reads S4, S4D and DSS",
    ),
)


def refusal(names: Iterable[str]) -> str | None:
    """Why a state dict with these names is not read; None if it is of no such family."""
    names = list(names)
    for family in FAMILIES:
        if any(family.mark.search(name) for name in names):
            return f"this is {family.name}: not read because {family.why}; {family.instead}"
    return None
