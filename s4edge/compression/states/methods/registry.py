"""The methods of reduction by name."""

from __future__ import annotations

from s4edge.compression.states.base import ReductionMethod
from s4edge.compression.states.methods import (
    balanced,
    complex_balanced,
    finite_horizon,
    h2_optimal,
    hankel_norm,
    modal,
    shared_modes,
    singular_perturbation,
)
from s4edge.errors import S4EdgeError

METHODS: dict[str, ReductionMethod] = {
    module.METHOD.name: module.METHOD
    for module in (
        balanced,
        complex_balanced,
        singular_perturbation,
        modal,
        h2_optimal,
        hankel_norm,
        finite_horizon,
        shared_modes,
    )
}


def find_method(name: str) -> ReductionMethod:
    """A method by its name. Raises S4EdgeError where there is none."""
    if name not in METHODS:
        raise S4EdgeError(f"method {name!r} is unknown; known: {', '.join(METHODS)}")
    return METHODS[name]
